"""Diffusion models, on which out-of-distribution detection and unlearning build.

Names outside `__all__` are for this package only.
"""

from ._base import BaseDiffusionModel as BaseDiffusionModel
from ._ddpm import ConditionalDDPM
from ._denoisers import MLPDenoiser, UNetDenoiser
from ._denoising_math import (
    Prediction as Prediction,
    add_noise as add_noise,
    clean_from_noise as clean_from_noise,
    ddim_step,
    denoising_losses,
    guided as guided,
    noise_from_clean as noise_from_clean,
)
from ._diffusion import Diffusion, UnitRange, threads_for as threads_for
from ._inference import Sampler, draw_samples, reconstruct_samples
from ._schedules import cosine_levels, cosine_signal_level as cosine_signal_level, linear_levels
from ._training import (
    DDPMConfig,
    DenoiserTraining as DenoiserTraining,
    Noising as Noising,
    NoisyBatch as NoisyBatch,
    train_denoiser,
)
from ._wrapped_model import AdaptedModule as AdaptedModule, DiffusionModel

__all__ = [
    "ConditionalDDPM",
    "DDPMConfig",
    "Diffusion",
    "DiffusionModel",
    "MLPDenoiser",
    "Sampler",
    "UNetDenoiser",
    "UnitRange",
    "cosine_levels",
    "ddim_step",
    "denoising_losses",
    "draw_samples",
    "linear_levels",
    "reconstruct_samples",
    "train_denoiser",
]
