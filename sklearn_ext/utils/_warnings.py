"""Warnings that point at the code of the user."""

import sys
import warnings

_PASSED_THROUGH = ("sklearn_ext.", "sklearn.", "skorch.", "joblib.", "contextlib")


def warn_caller(message, category=UserWarning):
    """Warn, and point at the user's line, however many decorators and helpers lie between.

    Parameters
    ----------
    message : str
    category : type, default=UserWarning
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_passed_through(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_passed_through(frame):
    return frame.f_globals.get("__name__", "").startswith(_PASSED_THROUGH)
