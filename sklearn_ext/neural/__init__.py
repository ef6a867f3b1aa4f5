"""What all torch-based estimators share."""

from ._device import resolve_device

__all__ = ["resolve_device"]
