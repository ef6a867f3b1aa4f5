"""Fitted ridge regressions, and their updates for forgotten and learned samples.

A solution contains only NumPy arrays, so it can be stored regardless of the engine. Its methods
return a new solution and leave it valid, so an interrupted request changes nothing.
"""

from typing import TypeAlias

from ._dual import DualSolution
from ._path import OneRidge, RidgePath
from ._primal import PrimalSolution
from ._sums import NEVER_LEARNED, Sums

Solution: TypeAlias = DualSolution | PrimalSolution | RidgePath

__all__ = [
    "NEVER_LEARNED",
    "DualSolution",
    "OneRidge",
    "PrimalSolution",
    "RidgePath",
    "Solution",
    "Sums",
]
