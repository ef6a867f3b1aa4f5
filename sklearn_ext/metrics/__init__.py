"""Scores that scikit-learn does not have."""

from ._imputation import imputation_score
from ._ood import OODReport, OODScores, fpr_at_tpr_score, ood_report

__all__ = ["OODReport", "OODScores", "fpr_at_tpr_score", "imputation_score", "ood_report"]
