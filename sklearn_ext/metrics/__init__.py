"""Scores that scikit-learn does not have."""

from ._imputation import imputation_score

__all__ = ["imputation_score"]
