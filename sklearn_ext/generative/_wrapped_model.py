"""A trained diffusion network of any kind as an estimator, without training."""

import copy
from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import column_or_1d
from torch import nn
from torch.utils.data import Dataset

from ..neural import (
    draw_seed,
    encode_labels,
    n_samples_of,
    select_samples,
    torch_generator,
    validate_input,
)
from ..utils._atomic import atomic_fit
from ..utils._typing import Array, FloatArray, IntArray, RandomState
from ..utils._validation import check_class_labels
from ..utils._warnings import warn_caller
from ._base import BaseDiffusionModel
from ._denoisers import UNUSABLE
from ._denoising_math import PREDICTIONS, Prediction
from ._diffusion import Diffusion, UnitRange, resolve_sample_shape, resolve_unit_range, threads_for
from ._training import Noising

_N_TRIED, _N_DRAWS = 8, 4  # samples and draws of noise in the trial of a module
_SMALLEST_LEVEL = 1e-8
# Predictions by their names in the configurations of schedulers.
_PREDICTION_TYPES = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}


class AdaptedModule(nn.Module):
    """A wrapper that gives a network of any signature the ``forward(x, t, c)`` of the package.

    Parameters
    ----------
    module : torch.nn.Module
        The network.
    n_timesteps : int
        Number of steps of its schedule.
    labels : tensor of int64, shape (n_codes,)
        The network's class label of each class code. Empty for a network without classes.
    call : callable or None
        Calls the network; see :class:`DiffusionModel`.
    """

    def __init__(
        self,
        module: nn.Module,
        n_timesteps: int,
        labels: torch.Tensor,
        call: Callable[..., Any] | None,
    ) -> None:
        super().__init__()
        self.module = module
        self.n_timesteps = n_timesteps
        self.call = call
        self.register_buffer("labels", labels, persistent=False)

    def forward(self, x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        """Return the network's prediction for noisy samples, in single precision."""
        steps = (t * self.n_timesteps).round().long()
        dtype = next((p.dtype for p in self.module.parameters() if p.is_floating_point()), x.dtype)
        labels = self.get_buffer("labels")
        given = [x.to(dtype), steps, *([labels[c]] if len(labels) else [])]
        output = self.module(*given) if self.call is None else self.call(self.module, *given)
        if not isinstance(output, torch.Tensor):  # a tuple, or a class with named outputs
            output = output.sample if hasattr(output, "sample") else output[0]
        if output.shape == (len(x), 2 * x.shape[1], *x.shape[2:]):  # the rest is the learned sigma
            output = output[:, : x.shape[1]]
        if output.shape != x.shape:
            raise ValueError(
                f"its output has shape {tuple(output.shape)} instead of the shape of the samples, "
                f"{tuple(x.shape)}, or of samples with twice as many channels"
            )
        return output.float()


class DiffusionModel(BaseDiffusionModel):
    r"""Any trained diffusion network as a model that draws, scores and forgets.

    Wrap the network that you have, such as a ``UNet2DModel`` of diffusers or a DiT on latents, and
    pass the model to :class:`~sklearn_ext.SFRonClassForgetter` or
    :class:`~sklearn_ext.DiffusionOODDetector`. Nothing is trained: `fit` copies the network and
    tries it on a few samples. It raises an error if the network cannot be called with them, and
    warns if the predictions are worse than a constant zero.

    Parameters
    ----------
    module : torch.nn.Module
        The trained network. It is called with noisy samples, integer steps from 0 to T - 1 and, if
        there are classes, their integer labels. It returns its prediction as a tensor, as the first
        item of a tuple or as the attribute ``sample``. If it returns twice as many channels as it
        is given, the second half is a learned variance, which is not used. The network is copied.

    schedule : array-like of shape (n_timesteps,) or scheduler
        The signal levels :math:`\bar\alpha_t` with which the network was trained, such as
        :func:`~sklearn_ext.generative.linear_levels`; or a scheduler of diffusers, which has them
        in its attribute ``alphas_cumprod``.

    prediction : {"epsilon", "v", "sample"}, default="epsilon"
        What the network predicts: the noise e, the clean sample x, or
        :math:`v = \sqrt{\bar\alpha_t}\, e - \sqrt{1 - \bar\alpha_t}\, x` [1]_.

    sample_range : tuple of (float, float) or None
        Values in X that correspond to -1 and 1 in the units of the network, such as (0, 255) for
        pixels. Generated samples stay within this range. None means that X is in the units of the
        network and unlimited, as latents are.

    classes : array-like of shape (n_classes,) or None, default=None
        Label of each class of the network, in the order of its integer labels 0, 1, and so on. None
        means that the labels in y are the integers that the network takes.

    null_label : int or None, default=None
        The network's integer label for "any class". None means that it was trained
        without one.

    call : callable or None, default=None
        How to call a network with another signature: ``call(module, x, t, c)``, or
        ``call(module, x, t)`` without classes, returns the prediction.

    image_shape : tuple of int or None, default=None
        Shape (height, width) or (channels, height, width) in which the network sees the samples.
        None means the shape of a sample in X.

    random_state : int, RandomState instance or None, default=None
        Seed of the noise in `fit` and in :meth:`score_samples`.

    Attributes
    ----------
    module_ : torch.nn.Module
        The network, in evaluation mode. In a model that was made to forget classes, this is the
        changed network.

    classes_ : ndarray of shape (n_classes,)
        The labels in `classes`, or those seen in `fit`; empty without labels.

    class_prior_ : ndarray of shape (n_classes,)
        Fraction of the samples in each class. Without y, all classes are equally frequent.

    forgotten_classes_ : ndarray
        Classes that the model was made to forget. :meth:`sample` refuses them.

    diffusion_ : Diffusion
        The network as ``forward(x, t, c)`` (``diffusion_.module``), with its schedule
        (``diffusion_.levels``) and units.

    score_seed_ : int
        Seed of the noise in :meth:`score_samples`.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    ConditionalDDPM : Trains a diffusion model of tables or small images.

    Notes
    -----
    Losses compare what the network predicts: a step of the forgetter lowers or raises the error of
    v if the network predicts v. Sampling and regeneration convert the prediction into an estimate
    of the noise.

    References
    ----------
    .. [1] T. Salimans, J. Ho, "Progressive Distillation for Fast Sampling of Diffusion Models",
       ICLR 2022, arXiv:2202.00512.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import ConditionalDDPM, SFRonClassForgetter
    >>> from sklearn_ext.generative import DiffusionModel
    >>> X, y = load_iris(return_X_y=True)
    >>> own = ConditionalDDPM(feature_range=(0, 8), max_iter=300, random_state=0).fit(X, y)
    >>> network, levels = own.diffusion_.module, own.diffusion_.levels  # or any network of yours
    >>> model = DiffusionModel(
    ...     network,
    ...     schedule=levels,
    ...     sample_range=(0, 8),
    ...     null_label=3,
    ...     call=lambda module, x, t, c: module(x, t / len(levels), c),
    ... )
    >>> model.fit(X, y).sample(2, y=1, random_state=0)[0].shape
    (2, 4)
    >>> forgetter = SFRonClassForgetter(model, random_state=0).fit(X, y, forget_class=0)
    >>> type(forgetter.estimator_.module_).__name__
    'MLPDenoiser'
    """

    _parameter_constraints: dict[str, Any] = {
        "module": [nn.Module],
        "schedule": "no_validation",
        "prediction": [StrOptions(set(PREDICTIONS))],
        "sample_range": [tuple, list, None],
        "classes": ["array-like", None],
        "null_label": [Interval(Integral, 0, None, closed="left"), None],
        "call": [callable, None],
        "image_shape": ["array-like", None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        module: nn.Module,
        *,
        schedule: Any,
        prediction: Prediction = "epsilon",
        sample_range: tuple[float, float] | None,
        classes: ArrayLike | None = None,
        null_label: int | None = None,
        call: Callable[..., Any] | None = None,
        image_shape: tuple[int, ...] | None = None,
        random_state: RandomState = None,
    ) -> None:
        self.module = module
        self.schedule = schedule
        self.prediction = prediction
        self.sample_range = sample_range
        self.classes = classes
        self.null_label = null_label
        self.call = call
        self.image_shape = image_shape
        self.random_state = random_state

    @property
    def module_(self) -> nn.Module:
        """The network, as the user's own class."""
        return self.diffusion_.module.get_submodule("module")

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Copy the network and try it on a few samples. Nothing is trained.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width), or torch.utils.data.Dataset
            Samples like those that the network was trained on. A map-style dataset of pairs
            (sample, label) is read batch by batch.
        y : array-like of shape (n_samples,), default=None
            Classes of the samples. None means no classes or, for a dataset, the labels in it.

        Returns
        -------
        self : DiffusionModel
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is invalid, the network cannot be called with the samples, or its output
            has the wrong shape or is not finite.

        Warns
        -----
        UserWarning
            If the network predicts worse than a constant zero.
        """
        labels, is_dataset = None, isinstance(X, Dataset)
        if y is None and not is_dataset:
            samples = validate_input(self, X, reset=True)
        else:
            samples, y = validate_input(self, X, y, reset=True, any_form=is_dataset)
            labels = column_or_1d(y, warn=True)
            check_class_labels(labels)
        sample_shape = resolve_sample_shape(self.image_shape, self.input_shape_)
        network_labels = self._set_classes(labels)
        levels = _levels(self.schedule, self.prediction)
        unlimited = self.sample_range is None
        unit_range = UnitRange(np.zeros((), np.float32), np.ones((), np.float32))
        if not unlimited:
            unit_range = resolve_unit_range(
                self.sample_range, samples, sample_shape, name="sample_range"
            )
        n_classes = len(self.classes_)
        module = copy.deepcopy(self.module)
        adapted = AdaptedModule(module, len(levels), torch.as_tensor(network_labels), self.call)
        self.diffusion_ = Diffusion(
            module=adapted.eval(),
            levels=levels,
            unit_range=unit_range,
            sample_shape=sample_shape,
            n_classes=n_classes,
            prediction=self.prediction,
            bounds=None if unlimited else (-1.0, 1.0),
            knows_any_class=self.null_label is not None or n_classes == 0,
        )
        adapted.to(self.diffusion_.device)
        self.forgotten_classes_ = self.classes_[:0]
        self.score_seed_ = draw_seed(self.random_state)
        first = np.arange(min(_N_TRIED, n_samples_of(samples)))
        self._try(select_samples(samples, first), None if labels is None else labels[first])
        return self

    def _set_classes(self, labels: Array | None) -> IntArray:
        """Set `classes_` and `class_prior_`; return the network's label of each class code."""
        null = [] if self.null_label is None else [int(self.null_label)]
        if self.classes is not None:
            self.classes_ = column_or_1d(self.classes)
            if len(np.unique(self.classes_)) < len(self.classes_):
                raise ValueError(f"classes must be different labels, got {self.classes!r}.")
            own = np.arange(len(self.classes_))
        elif labels is None:
            self.classes_, own = np.empty(0), np.empty(0, dtype=np.int64)
        else:
            self.classes_ = np.unique(labels)
            if not _are_indices(self.classes_):
                raise ValueError(
                    "y must contain the integers that the network takes as classes, or `classes` "
                    f"must name the label of each of them; y has the labels {self.classes_}."
                )
            own = self.classes_.astype(np.int64)
        if null and null[0] in own:
            raise ValueError(
                f"null_label={self.null_label} must not be the integer label of a class."
            )
        n_classes = len(self.classes_)
        self.class_prior_: FloatArray = np.full(n_classes, 1 / max(n_classes, 1))
        if labels is not None:
            codes = encode_labels(labels, self.classes_)
            self.class_prior_ = np.bincount(codes, minlength=n_classes) / len(codes)
        return np.concatenate([own, np.array(null, dtype=np.int64)]).astype(np.int64)

    @torch.no_grad()
    def _try(self, X: FloatArray, labels: Array | None) -> None:
        """Raise ValueError if the network cannot be used; warn if its predictions are useless."""
        diffusion = self.diffusion_
        n = n_samples_of(X)
        x = diffusion.encode(X)[torch.arange(n)]
        codes = diffusion.code_tensor(np.zeros(n, dtype=np.int64))
        if labels is not None:
            codes = diffusion.code_tensor(encode_labels(labels, self.classes_))
        generator = torch_generator(self.score_seed_, diffusion.device)
        noising = Noising(diffusion.levels, diffusion.null_code, 0.0, generator, self.prediction)
        batch = noising(x.repeat(_N_DRAWS, *[1] * (x.ndim - 1)), codes.repeat(_N_DRAWS))
        with threads_for(diffusion.sample_shape):
            try:
                estimate = diffusion.module(batch.x, batch.times, batch.codes)
            except UNUSABLE as error:
                has_labels = len(diffusion.module.get_buffer("labels")) > 0
                arguments = "x, t, c" if has_labels else "x, t"
                form = f"module({arguments})" if self.call is None else f"call(module, {arguments})"
                raise ValueError(
                    f"module={type(self.module).__name__} must be a diffusion network that can be "
                    f"called as {form} with noisy samples x of shape {tuple(batch.x.shape)}, "
                    f"integer steps t and class labels c, but {error}. Set `call` for a network "
                    "with another signature."
                ) from error
        if not bool(torch.isfinite(estimate).all()):
            raise ValueError(
                f"module={type(self.module).__name__} must return finite predictions, got NaN or "
                "infinity."
            )
        loss = float((estimate - batch.target).square().mean())
        loss_of_zero = float(batch.target.square().mean())
        if loss >= loss_of_zero:
            warn_caller(
                f"The network predicts worse than a constant zero: its mean squared error is "
                f"{loss:.3g} on {n} samples, but that of zero is {loss_of_zero:.3g}. Check that "
                "schedule, prediction and sample_range are those of its training."
            )


def _are_indices(labels: Array) -> bool:
    if labels.dtype.kind not in "iuf":
        return False
    values = labels.astype(np.float64)
    return bool((values >= 0).all() and (values % 1 == 0).all())


def _levels(schedule: Any, prediction: str) -> FloatArray:
    """Return the signal levels of a schedule: an array, or a scheduler that has them."""
    given = getattr(schedule, "alphas_cumprod", schedule)
    trained_for = getattr(getattr(schedule, "config", None), "prediction_type", None)
    if trained_for is not None and _PREDICTION_TYPES.get(trained_for) != prediction:
        raise ValueError(
            f"prediction={prediction!r} must agree with the scheduler, whose prediction_type is "
            f"{trained_for!r}."
        )
    if isinstance(given, torch.Tensor):
        given = given.detach().cpu().numpy()
    try:
        levels = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        levels = np.empty(0)
    falls = levels.ndim == 1 and len(levels) > 1 and bool((np.diff(levels) <= 0).all())
    if not falls or not (levels.max() <= 1 and levels.min() >= 0):
        raise ValueError(
            "schedule must be an array of at least two signal levels that fall from nearly 1 to "
            f"nearly 0, or a scheduler with the attribute alphas_cumprod, got {schedule!r}."
        )
    return levels.clip(_SMALLEST_LEVEL, 1 - _SMALLEST_LEVEL)
