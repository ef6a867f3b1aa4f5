"""Scores that scikit-learn does not have."""

from ._closeness import mean_kl_divergence, unlearning_gap
from ._imputation import imputation_score
from ._membership import membership_inference_score
from ._ood import OODReport, OODScores, fpr_at_tpr_score, ood_report

__all__ = [
    "OODReport",
    "OODScores",
    "fpr_at_tpr_score",
    "imputation_score",
    "mean_kl_divergence",
    "membership_inference_score",
    "ood_report",
    "unlearning_gap",
]
