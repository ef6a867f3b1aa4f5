"""Out-of-distribution detection by regenerating the input with a diffusion model (DDoS).

Names outside `__all__` are for this package only.
"""

from ._diffusion_detector import DiffusionOODDetector
from ._diffusion_disparities import DiffusionOODConfig, diffusion_disparities
from ._disparity_formulas import feature_disparity, pixel_disparity, probability_disparity
from ._empirical_denoiser import EmpiricalDenoiser
from ._path_scale import PathScale as PathScale
from ._regeneration import regenerate

__all__ = [
    "DiffusionOODConfig",
    "DiffusionOODDetector",
    "EmpiricalDenoiser",
    "diffusion_disparities",
    "feature_disparity",
    "pixel_disparity",
    "probability_disparity",
    "regenerate",
]
