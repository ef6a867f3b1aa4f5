"""Forgetting classes in a diffusion model (SFRon); names outside `__all__` are internal."""

from ._class_forgetter import SFRonClassForgetter
from ._class_forgetting import (
    ClassForgetting as ClassForgetting,
    ClassForgettingConfig,
    forget_classes,
)
from ._forget_objectives import (
    denoising_sample_losses as denoising_sample_losses,
    redirection,
)

__all__ = ["ClassForgettingConfig", "SFRonClassForgetter", "forget_classes", "redirection"]
