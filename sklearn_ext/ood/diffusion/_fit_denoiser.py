"""Build the denoiser that the parameter `diffusion` specifies, and its units."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from torch.utils.data import Dataset

from ...generative import (
    BaseDiffusionModel,
    ConditionalDDPM,
    Diffusion,
    DiffusionModel,
    add_noise,
    cosine_signal_level,
    threads_for,
)
from ...neural import (
    AnySamples,
    draw_seed,
    encode_labels,
    n_samples_of,
    sample_shape,
    select_samples,
    stacked,
)
from ...utils._typing import Array, FloatArray, IntArray
from ._empirical_denoiser import EmpiricalDenoiser, draw_prototypes
from ._path_scale import PathSamples, PathScale, fit_path_scale
from ._regeneration import Denoiser

_BLOCK = 1024  # samples that pass through a network together
_USUAL_LEVEL = 0.2
_NOISE_LEVELS = (_USUAL_LEVEL, 0.15, 0.1, 0.05, 0.02)
N_TRIED = 256  # held-out samples on which a noise level is chosen
_MOST_SAMPLES = 1.5


class CallableDenoiser:
    """A function ``noise = function(x_t, t, y)`` as a denoiser.

    If the function has its own schedule, it is the function's attribute ``signal_level``.
    Otherwise the schedule is :func:`cosine_signal_level`.

    Parameters
    ----------
    function : callable
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def signal_level(self, t: float) -> float:
        """Return the level of the schedule at time t as a Python float, which keeps float32."""
        return float(getattr(self.function, "signal_level", cosine_signal_level)(t))

    def predict_noise(self, x_t: FloatArray, t: float, y: IntArray | None = None) -> FloatArray:
        """Call the function, and raise ValueError unless its result is finite and shaped as x_t."""
        noise = np.asarray(self.function(x_t, t, y), dtype=x_t.dtype)
        if noise.shape != x_t.shape:
            raise ValueError(
                "The callable given as diffusion must return one estimate of the noise for each "
                f"entry of samples of shape {x_t.shape}, got shape {noise.shape}."
            )
        if not np.isfinite(noise).all():
            raise ValueError(
                "The callable given as diffusion must return finite numbers, got NaN or infinity "
                f"at t={t}."
            )
        return noise


class DDPMDenoiser:
    """The network of a fitted diffusion model, with its own schedule and units.

    Parameters
    ----------
    diffusion : Diffusion
    codes : int ndarray of shape (n_classes,) or None
        The model's class codes of the detector's classes; None for a model without classes.
    """

    def __init__(self, diffusion: Diffusion, codes: IntArray | None = None) -> None:
        self.diffusion = diffusion
        self.codes = codes

    def _step(self, t: float) -> int:
        n_timesteps = len(self.diffusion.levels)
        return min(round(t * n_timesteps), n_timesteps - 1)

    def signal_level(self, t: float) -> float:
        """Return the level of the model's step that is nearest to time t."""
        return float(self.diffusion.levels[self._step(t)])

    @torch.no_grad()
    def predict_noise(self, x_t: FloatArray, t: float, y: IntArray | None = None) -> FloatArray:
        """Estimate the noise in samples at time t, block by block."""
        diffusion = self.diffusion
        if y is None:
            codes = np.full(len(x_t), diffusion.null_code)
        elif self.codes is None:
            raise ValueError(
                "The diffusion model was trained without classes; fit the detector with "
                "conditional=True, or the ConditionalDDPM with y."
            )
        else:
            codes = self.codes[y]
        samples = torch.from_numpy(x_t).to(diffusion.device).reshape(-1, *diffusion.sample_shape)
        step = self._step(t)
        with threads_for(diffusion.sample_shape):
            noise = [
                diffusion.predict_noise(x, step, c)
                for x, c in zip(
                    samples.split(_BLOCK), diffusion.code_tensor(codes).split(_BLOCK), strict=True
                )
            ]
        return torch.cat(noise).cpu().numpy().reshape(x_t.shape)


def fit_denoiser(
    diffusion: Any,
    X: AnySamples,
    codes: IntArray | None,
    classes: Array | None,
    *,
    scale: str | tuple[float, float],
    conditional: bool,
    n_prototypes: int | None,
    rng: np.random.RandomState,
    device: str | torch.device | None = None,
    verbose: int = 0,
    training: Callable[[Any], AbstractContextManager[None]] = nullcontext,
) -> tuple[Denoiser, PathScale]:
    """Return a denoiser and the units in which it works.

    Parameters
    ----------
    diffusion : {"empirical", "ddpm"}, ConditionalDDPM, DiffusionModel, FrozenEstimator or callable
    X : float32 ndarray of shape (n, ...) or Dataset
        Training samples. The empirical denoiser reads only the samples that it stores.
    codes : int ndarray of shape (n,) or None
        Indices of their classes in `classes`; None without classes.
    classes : ndarray of shape (n_classes,) or None
    scale : {"minmax", "standard"} or (float, float)
    conditional : bool
        Whether the denoiser must be conditional on classes. It requires `codes`.
    n_prototypes : int or None
        Number of samples that the empirical denoiser stores; None stores all.
    rng : RandomState
    device : str, torch.device or None, default=None
        Where "empirical" and "ddpm" compute.
    verbose : int, default=0
        If positive, "ddpm" prints its progress.
    training : callable, default=nullcontext
        Called with a model; returns the context in which it is trained.

    Returns
    -------
    denoiser : Denoiser
    path_scale : PathScale

    Raises
    ------
    ValueError
        If the denoiser lacks a class that it must condition on, or the samples differ in shape
        from those of a fitted model.
    TypeError
        If `diffusion` is a bare network.
    """
    if isinstance(diffusion, FrozenEstimator):
        diffusion = diffusion.estimator
        if not hasattr(diffusion, "diffusion_"):
            raise ValueError(
                "A FrozenEstimator given as diffusion must hold a fitted ConditionalDDPM or "
                f"DiffusionModel, got {diffusion!r}."
            )
    if isinstance(diffusion, torch.nn.Module):
        raise TypeError(
            "diffusion must not be a bare torch.nn.Module, because its schedule and units are "
            f"unknown; wrap it in a DiffusionModel. Got {type(diffusion).__name__}."
        )
    if isinstance(diffusion, DiffusionModel) and not hasattr(diffusion, "diffusion_"):
        labels = None
        if conditional and classes is not None and codes is not None:
            labels = classes[codes]
        diffusion = clone(diffusion).fit(X, labels)
    if hasattr(diffusion, "diffusion_"):
        return _fitted_model(copy.deepcopy(diffusion), X, classes, conditional)
    path_scale = fit_path_scale(X, scale)
    wanted = np.arange(len(classes)) if conditional and classes is not None else None
    if diffusion == "empirical":
        empirical = _empirical_denoiser(X, path_scale, codes, n_prototypes, rng, device)
        if wanted is not None:
            empirical.check_classes(wanted)
        return empirical, path_scale
    if diffusion == "ddpm" or isinstance(diffusion, ConditionalDDPM):
        model = _new_model(diffusion, rng, device, verbose)
        is_dataset = isinstance(X, Dataset)
        # The model would take labels from a dataset, so it always gets those of the detector.
        labels = codes if conditional or is_dataset else None
        if is_dataset and labels is None:
            labels = np.zeros(n_samples_of(X), dtype=np.intp)
        with training(model):
            model.fit(PathSamples(X, path_scale) if is_dataset else path_scale.to_path(X), labels)
        model_codes = None if wanted is None else _codes_in_model(wanted, model)
        return DDPMDenoiser(model.diffusion_, model_codes), path_scale
    return CallableDenoiser(diffusion), path_scale


def chosen_noise_level(
    denoiser: Denoiser, x: FloatArray, noise: FloatArray, codes: IntArray | None
) -> float:
    """Return the largest noise level at which the denoiser still tells stored samples apart.

    Beyond that level, an empirical denoiser returns means of many samples, which move ordinary
    samples as far as unusual ones. The level is lower for dense tables than for images. Other
    denoisers have no stored samples and use a level of 0.2.

    Parameters
    ----------
    denoiser : Denoiser
    x : float32 ndarray of shape (n, ...)
        Held-out samples in units of the denoiser.
    noise : float32 ndarray of the shape of one sample
    codes : int ndarray of shape (n,) or None
        Class indices that the regeneration is conditional on.

    Returns
    -------
    float
    """
    if not isinstance(denoiser, EmpiricalDenoiser):
        return _USUAL_LEVEL
    for noise_level in _NOISE_LEVELS:
        level = denoiser.signal_level(noise_level)
        x_t = add_noise(x, noise, level)
        if np.median(denoiser.effective_samples(x_t, level, codes)) <= _MOST_SAMPLES:
            break
    return noise_level


def _empirical_denoiser(
    X: AnySamples,
    path_scale: PathScale,
    codes: IntArray | None,
    n_prototypes: int | None,
    rng: np.random.RandomState,
    device: str | torch.device | None,
) -> EmpiricalDenoiser:
    if codes is None:
        codes = np.zeros(n_samples_of(X), dtype=np.intp)
    kept = draw_prototypes(codes, len(codes) if n_prototypes is None else n_prototypes, rng)
    x = path_scale.to_path(stacked(select_samples(X, kept)))
    return EmpiricalDenoiser(x, codes[kept], device=device)


def _new_model(
    diffusion: Any,
    rng: np.random.RandomState,
    device: str | torch.device | None,
    verbose: int,
) -> ConditionalDDPM:
    """Return an unfitted model for samples that are already in the units of the path."""
    if isinstance(diffusion, ConditionalDDPM):
        model = clone(diffusion)
    else:
        model = ConditionalDDPM(
            schedule="cosine", cond_drop_prob=0.2, device=device, verbose=verbose
        )
    seed = draw_seed(rng)
    if model.random_state is None:
        model.set_params(random_state=seed)
    return model.set_params(feature_range=(-1, 1))


def _fitted_model(
    model: BaseDiffusionModel, X: AnySamples, classes: Array | None, conditional: bool
) -> tuple[DDPMDenoiser, PathScale]:
    if model.input_shape_ != sample_shape(X):
        raise ValueError(
            f"The {type(model).__name__} given as diffusion was fitted to samples of shape "
            f"{model.input_shape_}, but the samples of X have shape {sample_shape(X)}."
        )
    if not conditional and not model.diffusion_.knows_any_class:
        raise ValueError(
            "conditional=False needs a diffusion model of any class, but the given network was "
            "trained without a null_label."
        )
    model_codes = None
    if classes is not None:
        if conditional:
            model_codes = _codes_in_model(classes, model)
        elif np.isin(classes, model.classes_).all():
            model_codes = encode_labels(classes, model.classes_)
    units = model.diffusion_.unit_range
    varies = units.half_width > 0
    width = np.where(varies, units.half_width, np.float32(1))
    limited = model.diffusion_.bounds is not None
    bound = varies.astype(np.float32) if limited else np.full_like(width, np.inf)
    return DDPMDenoiser(model.diffusion_, model_codes), PathScale(
        units.center, width, -bound, bound
    )


def _codes_in_model(classes: Array, model: BaseDiffusionModel) -> IntArray:
    if missing := [label for label in classes.tolist() if label not in model.classes_]:
        raise ValueError(
            "conditional=True needs a diffusion model of every class, but the given one was "
            f"trained without the classes {missing}; its classes are {model.classes_.tolist()}."
        )
    return encode_labels(classes, model.classes_)
