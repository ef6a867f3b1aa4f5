"""The choice of LAB's kernel, ridges and length of training on held-out samples."""

from ._lab_candidates import HeldOut, HeldOutLoss, hold_out
from ._lab_race import (
    REFIT_ALPHAS,
    LABSelection,
    needs_selection,
    select_lab,
    without_selection,
)

__all__ = [
    "REFIT_ALPHAS",
    "HeldOut",
    "HeldOutLoss",
    "LABSelection",
    "hold_out",
    "needs_selection",
    "select_lab",
    "without_selection",
]
