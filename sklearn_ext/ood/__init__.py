"""Detectors of rows that belong to none of the known classes."""

from ._diffusion_detector import DiffusionOODDetector

__all__ = ["DiffusionOODDetector"]
