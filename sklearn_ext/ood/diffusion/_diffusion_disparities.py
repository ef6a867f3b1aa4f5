"""The algorithm of the detector: regenerate samples, and measure how far they have moved."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import gen_batches

from ...neural import AnySamples, n_samples_of, select_samples, stacked
from ...utils._typing import FloatArray
from .._classifier_outputs import ClassifierOutputs
from ._disparity_formulas import (
    feature_disparity,
    pixel_disparity,
    probability_disparity,
    remove_anomalies,
)
from ._path_scale import PathScale
from ._regeneration import Denoiser, regenerate

TERMS = ("pixel", "feature", "probability")
_UNSCALED = PathScale(np.float32(0), np.float32(1), np.float32(-1), np.float32(1))


@dataclass(frozen=True)
class DiffusionOODConfig:
    """Settings of :func:`~sklearn_ext.ood.diffusion_disparities`.

    Parameters
    ----------
    terms : tuple of str, default=("pixel",)
        The disparities to compute, from "pixel", "feature" and "probability".
    noise_level : float in (0, 1], default=0.2
        Time from which samples are regenerated.
    n_steps : int, default=1
        Number of steps back.
    conditional : bool, default=False
        Whether samples are regenerated as members of the class that the classifier predicts.
    guidance : float, default=1.0
        Weight of classifier-free guidance; it has no effect unless `conditional` is True.
    feature_metric : {"cosine", "l2", "unit_l1"}, default="cosine"
        Metric of :func:`~sklearn_ext.ood.feature_disparity`.
    probability_metric : {"jeffreys", "kl", "kl_rev", "js", "logit_l1"}, default="jeffreys"
        Metric of :func:`~sklearn_ext.ood.probability_disparity`.
    anomaly_removal : {"both", "generation", "none"}, default="both"
        Which abnormally large features are clipped.

    Examples
    --------
    >>> from sklearn_ext.ood import DiffusionOODConfig
    >>> DiffusionOODConfig(n_steps=3).noise_level
    0.2
    """

    terms: tuple[str, ...] = ("pixel",)
    noise_level: float = 0.2
    n_steps: int = 1
    conditional: bool = False
    guidance: float = 1.0
    feature_metric: str = "cosine"
    probability_metric: str = "jeffreys"
    anomaly_removal: str = "both"


def diffusion_disparities(
    X: AnySamples,
    denoiser: Denoiser,
    noise: FloatArray,
    config: DiffusionOODConfig,
    *,
    scale: PathScale = _UNSCALED,
    outputs: ClassifierOutputs | None = None,
    clip_value: float = np.inf,
    batch_size: int = 1024,
) -> dict[str, FloatArray]:
    """Regenerate samples, and measure how far they have moved [1]_.

    Parameters
    ----------
    X : float32 ndarray of shape (n_samples, ...) or Dataset
        Samples in units of the data. Each batch of a dataset is read when it is compared.
    denoiser : object
        The diffusion model, with ``signal_level(t)`` and ``predict_noise(x_t, t, y=None)``, such
        as :class:`~sklearn_ext.ood.EmpiricalDenoiser`.
    noise : float32 ndarray of shape (n_repeats, ...)
        Standard normal noise; each draw has the shape of one sample.
    config : DiffusionOODConfig
        What to compute, and how.
    scale : PathScale, default=PathScale(0, 1, -1, 1)
        The units of the denoiser, which are also those of the pixel disparity. By default, X is
        already in these units, with values in [-1, 1].
    outputs : ClassifierOutputs or None, default=None
        Features and logits, or probabilities, of a fitted classifier. The "pixel" term needs
        none.
    clip_value : float, default=inf
        Value at which features are clipped.
    batch_size : int, default=1024
        Number of samples that are regenerated at a time.

    Returns
    -------
    dict of str to ndarray of shape (n_samples,)
        The disparity of each term, averaged over the draws of noise.

    Raises
    ------
    ValueError
        If `outputs` does not allow one of the terms.

    References
    ----------
    .. [1] K. Fang, Q. Tao, Z. Yang, X. Huang, J. Yang, "Beyond Perceptual Distances: Rethinking
       Disparity Assessment for Out-of-Distribution Detection with Diffusion Models",
       arXiv:2409.10094, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.ood import DiffusionOODConfig, EmpiricalDenoiser, diffusion_disparities
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-0.5, 0.5, size=(200, 3)).astype(np.float32)
    >>> noise = rng.standard_normal((4, 3)).astype(np.float32)
    >>> denoiser, config = EmpiricalDenoiser(X), DiffusionOODConfig()
    >>> new = np.array([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9]], dtype=np.float32)
    >>> diffusion_disparities(new, denoiser, noise, config)["pixel"].round(2)
    array([0.26, 1.01])
    """
    if missing := [term for term in config.terms if term not in available_terms(outputs)]:
        raise ValueError(
            f"The disparities {missing} cannot be computed from these outputs: {outputs!r}."
        )
    blocks = []
    for batch in gen_batches(n_samples_of(X), batch_size):
        x = batch_of(X, batch)
        x_hat = regenerate(
            scale.to_path(x),
            noise,
            denoiser,
            noise_level=config.noise_level,
            n_steps=config.n_steps,
            guidance=config.guidance,
            codes=outputs.codes(x) if config.conditional and outputs is not None else None,
            bounds=scale.bounds,
        )
        X_hat, leading, values = scale.from_path(x_hat), x_hat.shape[:2], {}
        if "pixel" in config.terms:
            flat = scale.to_path(x).reshape(len(x), -1)
            values["pixel"] = pixel_disparity(flat, scale.to_path(X_hat).reshape(*leading, -1))
        if outputs is not None and set(config.terms) - {"pixel"}:
            z = outputs.compute(x)
            z_hat = outputs.compute(X_hat.reshape(-1, *x.shape[1:])).reshape(*leading, -1)
            if outputs.has_features:
                z, z_hat = remove_anomalies(z, z_hat, clip_value, config.anomaly_removal)
            if "feature" in config.terms:
                values["feature"] = feature_disparity(z, z_hat, config.feature_metric)
            if "probability" in config.terms:
                values["probability"] = probability_disparity(
                    outputs.logits(z), outputs.logits(z_hat), config.probability_metric
                )
        blocks.append({term: disparity.mean(axis=0) for term, disparity in values.items()})
    return {term: np.concatenate([block[term] for block in blocks]) for term in config.terms}


def batch_of(X: AnySamples, batch: slice) -> FloatArray:
    """Return a batch of samples as an array; a batch of an array is a view."""
    if isinstance(X, np.ndarray):
        return X[batch]
    return stacked(select_samples(X, np.arange(batch.start, batch.stop)))


def available_terms(outputs: ClassifierOutputs | None) -> tuple[str, ...]:
    """Return the disparities that the outputs of a classifier allow."""
    if outputs is None:
        return ("pixel",)
    return TERMS if outputs.has_features else ("pixel", "probability")


def chosen_terms(disparity: Any, outputs: ClassifierOutputs | None) -> tuple[str, ...]:
    """Return the disparities that the parameter `disparity` of the detector selects.

    Raises
    ------
    ValueError
        If it contains anything other than the names in `TERMS`, each at most once, or if the
        outputs do not allow one of them.
    """
    available = available_terms(outputs)
    if isinstance(disparity, str):
        disparity = available[:2] if disparity == "auto" else (disparity,)
    terms = tuple(disparity)
    if not terms or len(set(terms)) < len(terms) or not set(terms) <= set(TERMS):
        raise ValueError(f"disparity must be 'auto' or some of {TERMS}, got {disparity!r}.")
    if missing := [term for term in terms if term not in available]:
        raise ValueError(
            f"disparity={disparity!r} is not available: {' and '.join(missing)} disparities need a "
            "classifier (features need a skorch.NeuralNetClassifier, probabilities any "
            f"classifier). Without it, only {available} are available."
        )
    return terms
