"""Forgetting classes in a diffusion model (SFRon); names outside `__all__` are internal."""

from ._class_forgetter import SFRonClassForgetter
from ._fast_slow_forgetting import (
    ClassForgetting as ClassForgetting,
    ClassForgettingConfig,
    denoising_sample_losses as denoising_sample_losses,
    forget_classes,
    redirected_codes as redirected_codes,
    redirection,
)

__all__ = ["ClassForgettingConfig", "SFRonClassForgetter", "forget_classes", "redirection"]
