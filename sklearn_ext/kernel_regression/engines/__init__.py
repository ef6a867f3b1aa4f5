"""The array operations of LAB, with one engine per library."""

from ._lab_engine import EngineArray, LABEngine, evaluate_expansion, kernel_features, make_engine

__all__ = ["EngineArray", "LABEngine", "evaluate_expansion", "kernel_features", "make_engine"]
