"""Small shared tools that are not neural."""

from ._estimators import all_estimators, expected_failed_checks

__all__ = ["all_estimators", "expected_failed_checks"]
