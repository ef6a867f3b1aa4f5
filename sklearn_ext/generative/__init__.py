"""A small diffusion model, shared by what detects and what forgets."""

from ._ddpm import ConditionalDDPM
from ._denoisers import MLPDenoiser, UNetDenoiser
from ._denoising_math import denoising_losses as denoising_losses
from ._diffusion import Diffusion as Diffusion, Sampler as Sampler
from ._threads import threads_for as threads_for
from ._training import Noising as Noising, NoisyBatch as NoisyBatch

__all__ = ["ConditionalDDPM", "MLPDenoiser", "UNetDenoiser"]
