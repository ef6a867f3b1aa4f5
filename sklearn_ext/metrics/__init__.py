"""Scores that scikit-learn does not have."""

from ._closeness import mean_kl_divergence, unlearning_gap
from ._generation import (
    GenerationReport,
    GenerationScores,
    frechet_distance,
    generation_report,
)
from ._imputation import imputation_score
from ._membership import membership_inference_score
from ._ood import OODReport, OODScores, fpr_at_tpr_score, ood_report
from ._unlearning import UnlearningReport, unlearning_report

__all__ = [
    "GenerationReport",
    "GenerationScores",
    "OODReport",
    "OODScores",
    "UnlearningReport",
    "fpr_at_tpr_score",
    "frechet_distance",
    "generation_report",
    "imputation_score",
    "mean_kl_divergence",
    "membership_inference_score",
    "ood_report",
    "unlearning_gap",
    "unlearning_report",
]
