"""Warnings that point to the user's code."""

import sys
import warnings
from types import FrameType

_PASSED_THROUGH = (
    "sklearn_ext.",
    "sklearn.",
    "skorch.",
    "joblib.",
    "contextlib",
    "torch.utils._contextlib",  # decorators such as torch.no_grad
)


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning at the user's line, past all decorators and helpers in between.

    Parameters
    ----------
    message : str
    category : type, default=UserWarning
    """
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_passed_through(frame):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _is_passed_through(frame: FrameType) -> bool:
    return frame.f_globals.get("__name__", "").startswith(_PASSED_THROUGH)
