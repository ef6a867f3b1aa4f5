"""A small diffusion model, shared by what detects and what forgets."""

from ._ddpm import ConditionalDDPM
from ._denoisers import MLPDenoiser, UNetDenoiser
from ._denoising_math import (
    add_noise as add_noise,
    clean_from_noise as clean_from_noise,
    denoising_losses as denoising_losses,
    guided as guided,
    noise_from_clean as noise_from_clean,
)
from ._diffusion import Diffusion as Diffusion, Sampler as Sampler
from ._threads import threads_for as threads_for
from ._training import Noising as Noising, NoisyBatch as NoisyBatch

__all__ = ["ConditionalDDPM", "MLPDenoiser", "UNetDenoiser"]
