"""Small shared utilities that do not depend on torch."""

from ._estimators import all_estimators, expected_failed_checks

__all__ = ["all_estimators", "expected_failed_checks"]
