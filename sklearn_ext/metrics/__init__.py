"""Scores and reports for unlearning, outlier detection, generation and imputation."""

from ._audit import (
    MembershipAudit,
    auc_interval,
    likelihood_ratio,
    logit_confidence,
    membership_audit,
)
from ._generation import GenerationReport, frechet_distance, generation_report
from ._imputation import ImputationReport, imputation_report, imputation_score
from ._membership import membership_inference_score
from ._ood import OODReport, fpr_at_tpr_score, ood_report, select_outliers
from ._unlearning import (
    UnlearningReport,
    mean_kl_divergence,
    unlearning_gap,
    unlearning_report,
)

__all__ = [
    "GenerationReport",
    "ImputationReport",
    "MembershipAudit",
    "OODReport",
    "UnlearningReport",
    "auc_interval",
    "fpr_at_tpr_score",
    "frechet_distance",
    "generation_report",
    "imputation_report",
    "imputation_score",
    "likelihood_ratio",
    "logit_confidence",
    "mean_kl_divergence",
    "membership_audit",
    "membership_inference_score",
    "ood_report",
    "select_outliers",
    "unlearning_gap",
    "unlearning_report",
]
