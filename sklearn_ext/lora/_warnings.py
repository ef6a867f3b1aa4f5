"""Warnings that point at the code of the user."""

import sys
import warnings

_PASSED_THROUGH = ("sklearn_ext.", "skorch.")


def warn_caller(message):
    """Warn where the first call from outside of this package and skorch is."""
    frame, level = sys._getframe(1), 2
    while frame and frame.f_globals.get("__name__", "").startswith(_PASSED_THROUGH):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
