import sys
import warnings

_INSIDE = ("sklearn_ext.", "sklearn.")


def warn_caller(message, category=UserWarning):
    """Warn, and point at the user's line, however many decorators and helpers lie between.

    Parameters
    ----------
    message : str
    category : type, default=UserWarning
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_INSIDE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
