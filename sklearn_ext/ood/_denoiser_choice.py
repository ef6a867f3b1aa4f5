"""From the parameter `diffusion` to a denoiser and the units in which it works."""

import copy

import numpy as np
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from ..generative import ConditionalDDPM
from ..neural import draw_seed, encode_labels
from ._ddpm_denoiser import DDPMDenoiser
from ._diffusion_path import CallableDenoiser
from ._empirical_denoiser import EmpiricalDenoiser, draw_prototypes
from ._path_scale import PathScale, fit_path_scale


def fit_denoiser(diffusion, X, codes, classes, *, scale, conditional, n_prototypes, rng):
    """Return what estimates the noise in rows, and the units of these rows.

    Parameters
    ----------
    diffusion : {"empirical", "ddpm"}, ConditionalDDPM, FrozenEstimator or callable
    X : float32 ndarray of shape (n, ...)
        Training rows.
    codes : int ndarray of shape (n,) or None
        Positions of their classes in `classes`; None without classes.
    classes : ndarray of shape (n_classes,) or None
    scale : {"minmax", "standard"} or (float, float)
    conditional : bool
        Whether the denoiser must know classes; then there are codes.
    n_prototypes : int or None
    rng : RandomState

    Returns
    -------
    denoiser : Denoiser
    path_scale : PathScale

    Raises
    ------
    ValueError
        If the denoiser must know classes that it has no rows of, or if rows have another shape
        than those of a fitted model.
    """
    if isinstance(diffusion, FrozenEstimator):
        diffusion = diffusion.estimator
        if not hasattr(diffusion, "diffusion_"):
            raise ValueError(
                "A FrozenEstimator given as diffusion must hold a fitted ConditionalDDPM, got "
                f"{diffusion!r}."
            )
    if hasattr(diffusion, "diffusion_"):
        return _fitted_model(copy.deepcopy(diffusion), X, classes, conditional)
    path_scale = fit_path_scale(X, scale)
    if diffusion == "empirical":
        denoiser = _empirical(path_scale.to_path(X), codes, n_prototypes, rng)
        if conditional:
            denoiser.check_classes(np.arange(len(classes)))
    elif diffusion == "ddpm" or isinstance(diffusion, ConditionalDDPM):
        labels = codes if conditional else None
        model = _trained_model(diffusion, path_scale.to_path(X), labels, rng)
        known = _known_codes(np.arange(len(classes)), model) if conditional else None
        denoiser = DDPMDenoiser(model.diffusion_, known)
    else:
        denoiser = CallableDenoiser(diffusion)
    return denoiser, path_scale


def _empirical(x, codes, n_prototypes, rng):
    if codes is None:
        codes = np.zeros(len(x), dtype=np.intp)
    kept = draw_prototypes(codes, n_prototypes or len(x), rng)
    return EmpiricalDenoiser(x[kept], codes[kept])


def _trained_model(diffusion, x, labels, rng):
    if isinstance(diffusion, ConditionalDDPM):
        model = clone(diffusion)
    else:
        model = ConditionalDDPM(schedule="cosine", cond_drop_prob=0.2)
    seed = draw_seed(rng)
    if model.random_state is None:
        model.set_params(random_state=seed)
    # The rows are in units of the path already.
    return model.set_params(feature_range=(-1, 1)).fit(x, labels)


def _fitted_model(model, X, classes, conditional):
    if model.input_shape_ != X.shape[1:]:
        raise ValueError(
            f"The ConditionalDDPM given as diffusion was fitted to rows of shape "
            f"{model.input_shape_}, and here rows have shape {X.shape[1:]}."
        )
    known = None
    if conditional:
        known = _known_codes(classes, model)
    elif classes is not None and np.isin(classes, model.classes_).all():
        known = encode_labels(classes, model.classes_)
    units = model.diffusion_.unit_range
    varies = units.half_width > 0
    width = np.where(varies, units.half_width, np.float32(1))
    bound = varies.astype(np.float32)
    return DDPMDenoiser(model.diffusion_, known), PathScale(units.center, width, -bound, bound)


def _known_codes(classes, model):
    if missing := [label for label in classes.tolist() if label not in model.classes_]:
        raise ValueError(
            f"conditional=True needs a diffusion model of every class, and it knows none of "
            f"{missing}; its classes are {model.classes_.tolist()}."
        )
    return encode_labels(classes, model.classes_)
