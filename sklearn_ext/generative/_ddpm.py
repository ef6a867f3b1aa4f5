"""A small diffusion model of tables or images, with or without classes."""

import copy
import dataclasses
import math
from collections.abc import Callable
from numbers import Integral, Real
from os import PathLike
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch import nn
from torch.utils.data import Dataset

from ..neural import (
    PRECISIONS,
    draw_seed,
    encode_labels,
    resolve_device,
    seeded,
    torch_generator,
    validate_input,
)
from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._typing import Array, FloatArray, RandomState
from ..utils._validation import check_class_labels
from ..utils.compat import CallbackSupportMixin, with_callbacks
from ._base import BaseDiffusionModel
from ._checkpoint import DDPMCheckpoint, read_checkpoint, write_checkpoint
from ._denoisers import build_denoiser, check_denoiser
from ._diffusion import Diffusion, resolve_sample_shape, resolve_unit_range, threads_for
from ._schedules import SCHEDULES
from ._training import DDPMConfig, DenoiserTraining, train_denoiser

_VERBOSE_EVERY = 100
_AUTO_EPOCHS = 256
_LARGEST_AUTO_ITER = 6000
_POSITIVE = Interval(Integral, 1, None, closed="left")


class ConditionalDDPM(CallbackSupportMixin, BaseDiffusionModel):
    r"""Denoising diffusion model of tables or small images.

    A network learns to estimate the noise in noisy samples. Sampling starts with pure noise and
    removes the estimated noise step by step. If you pass labels to `fit`, one network learns every
    class, and you can draw samples of each.

    Parameters
    ----------
    module : {"mlp", "unet"}, torch.nn.Module, callable or None, default=None
        The network. None means a residual MLP for vectors of features, and a U-Net of two
        resolutions for images. Your own module must have ``forward(x, t, c)`` for samples x scaled
        to [-1, 1], times t in [0, 1) and class codes c, and return the noise in x. The code after
        the last class means "any class". The module is copied. A callable builds it anew from
        the shape of a sample and the number of classes.

    width : int or None, default=None
        Number of units of the MLP (None: 192) or channels of the U-Net (None: 32).

    image_shape : tuple of int or None, default=None
        Shape (height, width) or (channels, height, width) in which the network sees the samples
        of a two-dimensional X.

    max_iter : int or "auto", default="auto"
        Number of training steps. "auto" makes 256 passes over the samples, but at most 6,000
        steps.

    batch_size : int, default=64
        Number of samples per step, drawn with replacement.

    learning_rate : float, default=2e-3
        Learning rate of Adam in the first step. It falls along a cosine to one hundredth of
        this value.

    n_timesteps : int, default=1000
        Number T of steps from data to noise.

    schedule : {"linear", "cosine"}, default="linear"
        Growth of the noise: :func:`~sklearn_ext.generative.linear_levels` [1]_ or
        :func:`~sklearn_ext.generative.cosine_levels` [4]_.

    cond_drop_prob : float in [0, 1], default=0.1
        Fraction of samples whose class is hidden in training, from which the model learns what
        samples of any class look like. Guidance needs a positive value.

    ema_decay : float in [0, 1), default=0.999
        Largest decay of the exponential moving average of the weights. The model samples with
        the averaged weights; 0 keeps the last weights.

    clip_norm : float, default=1.0
        Gradients are scaled down to this norm if they are longer.

    precision : {"full", "bf16"}, default="full"
        Precision of the forward pass in training. "bf16" uses torch's automatic mixed precision
        with bfloat16; weights and losses stay as they are.

    feature_range : tuple of (float, float) or "auto", default="auto"
        Values that are mapped to -1 and 1. "auto" is the range of each feature of a table, or the
        common range of all pixels of images. Generated samples stay within the range.

    checkpoint : str, path-like or None, default=None
        File to which the state of the training is written. Its name must end with
        ``.safetensors``.

    checkpoint_interval : int, default=1000
        Number of steps between two checkpoints.

    warm_start : bool, default=False
        Whether another call of `fit` continues the training until `max_iter` steps have been made
        in total. After :meth:`load_checkpoint`, the result is bit-for-bit identical to that
        of uninterrupted training.

    device : str, torch.device or None, default=None
        Where to compute: "cpu", "cuda", "mps", or "auto" for the best device available. None means
        the CPU.

    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights and of all draws in training.

    verbose : int, default=0
        If positive, print the loss every 100 steps.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels seen in `fit`; empty without labels.

    class_prior_ : ndarray of shape (n_classes,)
        Fraction of the training samples in each class.

    forgotten_classes_ : ndarray
        Classes that the model was made to forget. :meth:`sample` refuses them.

    diffusion_ : Diffusion
        The network (``diffusion_.module``) with its schedule (``diffusion_.levels``) and the
        units in which it works.

    training_state_ : dict of str to ndarray, or None
        The state from which training can continue. None in a model that was made to forget a
        class.

    score_seed_ : int
        Seed of the noise in :meth:`score_samples`.

    loss_curve_ : ndarray of shape (n_iter_,)
        Mean squared error per entry of the noise, for the batch of each step.

    n_iter_ : int
        Number of training steps.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    SFRonClassForgetter : Makes a fitted model forget a class.
    sklearn.neighbors.KernelDensity : Density estimation without training.

    Notes
    -----
    With :math:`x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, e` and standard normal
    noise e, training minimizes the mean of :math:`\lVert e - \hat e(x_t, t, c) \rVert^2` over
    samples, steps t and noise [1]_. Sampling makes a few steps of [2]_. Guidance uses
    :math:`(1 + w)\, \hat e(x_t, t, c) - w\, \hat e(x_t, t)` in place of
    :math:`\hat e(x_t, t, c)` [3]_.

    These are the papers' forms: the objective, the schedules, the averaged weights, the sampling
    steps, and guidance by hiding classes in training. The rest is our choice for tables and small
    images: the networks, a decaying learning rate and a higher first one, a faster average of the
    weights, steps t drawn in pairs t and T - 1 - t, and a linear schedule that is rescaled if T is
    not 1,000.

    Small MLPs are trained on one thread, because two threads would spend most of the time
    synchronizing.

    References
    ----------
    .. [1] J. Ho, A. Jain, P. Abbeel, "Denoising Diffusion Probabilistic Models", NeurIPS 2020.
    .. [2] J. Song, C. Meng, S. Ermon, "Denoising Diffusion Implicit Models", ICLR 2021.
    .. [3] J. Ho, T. Salimans, "Classifier-Free Diffusion Guidance", arXiv:2207.12598, 2022.
    .. [4] A. Nichol, P. Dhariwal, "Improved Denoising Diffusion Probabilistic Models",
       ICML 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import ConditionalDDPM
    >>> X, y = load_iris(return_X_y=True)
    >>> model = ConditionalDDPM(random_state=0).fit(X, y)
    >>> X_new, y_new = model.sample(3, y=2, random_state=0)
    >>> X_new.shape, y_new
    ((3, 4), array([2, 2, 2]))
    """

    _parameter_constraints: dict[str, Any] = {
        "module": [StrOptions({"mlp", "unet"}), nn.Module, callable, None],
        "width": [_POSITIVE, None],
        "image_shape": ["array-like", None],
        "max_iter": [_POSITIVE, StrOptions({"auto"})],
        "batch_size": [_POSITIVE],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "n_timesteps": [Interval(Integral, 2, None, closed="left")],
        "schedule": [StrOptions(set(SCHEDULES))],
        "cond_drop_prob": [Interval(Real, 0, 1, closed="both")],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="right")],
        "precision": [StrOptions({*PRECISIONS})],
        "feature_range": [StrOptions({"auto"}), tuple, list],
        "checkpoint": [str, PathLike, None],
        "checkpoint_interval": [_POSITIVE],
        "warm_start": ["boolean"],
        "device": "no_validation",
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    training_state_: dict[str, Array] | None

    def __init__(
        self,
        *,
        module: str | nn.Module | Callable[..., nn.Module] | None = None,
        width: int | None = None,
        image_shape: tuple[int, ...] | None = None,
        max_iter: int | str = "auto",
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        n_timesteps: int = 1000,
        schedule: str = "linear",
        cond_drop_prob: float = 0.1,
        ema_decay: float = 0.999,
        clip_norm: float = 1.0,
        precision: str = "full",
        feature_range: tuple[float, float] | str = "auto",
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_interval: int = 1000,
        warm_start: bool = False,
        device: str | torch.device | None = None,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.module = module
        self.width = width
        self.image_shape = image_shape
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.n_timesteps = n_timesteps
        self.schedule = schedule
        self.cond_drop_prob = cond_drop_prob
        self.ema_decay = ema_decay
        self.clip_norm = clip_norm
        self.precision = precision
        self.feature_range = feature_range
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval
        self.warm_start = warm_start
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Train the denoiser from new weights, or continue its training with `warm_start`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width), or torch.utils.data.Dataset
            Vectors of features or images. A map-style dataset of pairs (sample, label) is read
            batch by batch, in one pass for the range if `feature_range` is "auto".
        y : array-like of shape (n_samples,), default=None
            Classes to condition on, as labels of any kind. None means no classes or, for a dataset,
            the labels in it.

        Returns
        -------
        self : ConditionalDDPM
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, the data are not finite or do not fit the parameters,
            `module` cannot be called or returns anything but an estimate of the noise, or
            training diverges.
        """
        resume = self.warm_start and hasattr(self, "diffusion_")
        callback_data = {"X": X, "y": y, "metadata": None}
        samples, labels = self._check_training_samples(X, y, resume)
        rng = local_random_state(self.random_state)
        device = resolve_device(self.device)
        sample_shape = resolve_sample_shape(self.image_shape, self.input_shape_)
        with seeded(draw_seed(rng), device), threads_for(sample_shape):
            if not resume:
                self._prepare(samples, labels, sample_shape, rng)
            module = copy.deepcopy(self.diffusion_.module).to(device)
            self.diffusion_ = dataclasses.replace(self.diffusion_, module=module)
            generator = torch_generator(draw_seed(rng), device)
            self._train(samples, labels, generator, callback_data, resume)
        return self

    def _check_training_samples(self, X: Any, y: Any, resume: bool) -> tuple[Any, Array | None]:
        """Return float32 samples or a dataset, and labels or None."""
        if resume and self.training_state_ is None:
            raise ValueError(
                "warm_start=True cannot continue the training: its state was dropped when the "
                f"model was made to forget the classes {self.forgotten_classes_}."
            )
        if isinstance(X, Dataset):
            X, y = validate_input(self, X, y, reset=not resume, any_form=True)
        if resume and (y is None) != (self.diffusion_.n_classes == 0):
            raise ValueError("warm_start=True requires y exactly when the first fit had y.")
        if y is None:
            return validate_input(self, X, reset=not resume), None
        if not isinstance(X, Dataset):
            X, y = validate_input(self, X, y, reset=not resume)
        labels = column_or_1d(y, warn=True)
        check_class_labels(labels)
        return X, labels

    def _prepare(
        self,
        X: Any,
        labels: Array | None,
        sample_shape: tuple[int, ...],
        rng: np.random.RandomState,
    ) -> None:
        """Set all attributes that training does not change."""
        self.classes_ = np.empty(0) if labels is None else np.unique(labels)
        n_classes = len(self.classes_)
        self.class_prior_ = np.empty(0)
        if labels is not None:
            codes = encode_labels(labels, self.classes_)
            self.class_prior_ = np.bincount(codes, minlength=n_classes) / len(X)
        self.forgotten_classes_ = self.classes_[:0]
        self.score_seed_ = draw_seed(rng)
        self.loss_curve_: FloatArray = np.empty(0)
        self.training_state_ = None
        module = build_denoiser(self.module, self.width, sample_shape, n_classes)
        check_denoiser(module, sample_shape, n_classes)
        self.diffusion_ = Diffusion(
            module=module,
            levels=SCHEDULES[self.schedule](self.n_timesteps),
            unit_range=resolve_unit_range(self.feature_range, X, sample_shape),
            sample_shape=sample_shape,
            n_classes=n_classes,
        )

    def _train(
        self,
        X: Any,
        labels: Array | None,
        generator: torch.Generator,
        callback_data: dict[str, Any],
        resume: bool,
    ) -> None:
        """Train until `max_iter` steps have been made, and set the learned attributes."""
        state = self.training_state_ if resume else None
        n_done = self.n_iter_ if resume else 0
        config = self._config(len(X), n_done)
        losses = self.loss_curve_.tolist()
        context = self._init_callback_context(max_subtasks=config.max_iter - n_done)
        context.call_on_fit_task_begin(estimator=self, **callback_data)

        def learned(training: DenoiserTraining) -> dict[str, Any]:
            average = copy.deepcopy(training.average).eval()
            return {
                "diffusion_": dataclasses.replace(self.diffusion_, module=average),
                "training_state_": training.state(),
                "n_iter_": training.step,
                "loss_curve_": np.array(losses),
            }

        def after_step(training: DenoiserTraining, loss: float) -> bool:
            losses.append(loss)
            step, last = training.step, training.step == config.max_iter
            if self.verbose > 0 and (last or step % _VERBOSE_EVERY == 0):
                recent = np.mean(losses[-_VERBOSE_EVERY:])
                print(f"[{type(self).__name__}] step {step}/{config.max_iter}, loss {recent:.4f}")
            if self.checkpoint is not None and (last or step % self.checkpoint_interval == 0):
                write_checkpoint(self.checkpoint, _as_checkpoint(vars(self) | learned(training)))
            task = context.subcontext("step").call_on_fit_task_begin(estimator=self)
            return task.call_on_fit_task_end(
                estimator=self, reconstruction_attributes=lambda: learned(training), **callback_data
            )

        x, codes = self._tensors(X, labels)
        try:
            training = train_denoiser(
                self.diffusion_.module,
                x,
                codes,
                levels=self.diffusion_.levels,
                n_classes=self.diffusion_.n_classes,
                config=config,
                generator=generator,
                state=state,
                after_step=after_step,
            )
        except FloatingPointError as error:
            raise ValueError(
                f"Training diverged: {error} Use a learning_rate below {self.learning_rate!r}."
            ) from error
        for name, value in learned(training).items():
            setattr(self, name, value)
        context.call_on_fit_task_end(
            estimator=self, reconstruction_attributes=lambda: {}, **callback_data
        )

    def _config(self, n_samples: int, n_done: int) -> DDPMConfig:
        max_iter = self.max_iter
        if isinstance(max_iter, str):
            n_passes = math.ceil(_AUTO_EPOCHS * n_samples / self.batch_size)
            max_iter = min(n_passes, _LARGEST_AUTO_ITER)
        if max_iter < n_done:
            raise ValueError(
                f"max_iter counts the steps of all fits: with warm_start=True it must be at least "
                f"n_iter_={n_done}, got {max_iter}."
            )
        return DDPMConfig(
            max_iter=max_iter,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            cond_drop_prob=self.cond_drop_prob,
            ema_decay=self.ema_decay,
            clip_norm=self.clip_norm,
            precision=self.precision,
        )

    def with_forgotten_classes(self, classes: ArrayLike, module: nn.Module) -> Self:
        """Return a copy of the fitted model whose network has been made to forget classes.

        The copy refuses to sample these classes. Its training cannot continue, because the state
        of the training contains them.

        Parameters
        ----------
        classes : array-like of labels
            The forgotten classes, in addition to those in `forgotten_classes_`.
        module : torch.nn.Module
            The network after forgetting, in evaluation mode. It is not copied.

        Returns
        -------
        ConditionalDDPM
            The copy. The model itself is not changed.

        Raises
        ------
        ValueError
            If a label is not among the classes of the model.
        """
        changed = super().with_forgotten_classes(classes, module)
        changed.training_state_ = None
        return changed

    def save_checkpoint(self, path: str | PathLike[str]) -> None:
        """Write the fitted model and the state of its training to a safetensors file.

        Parameters
        ----------
        path : str or path-like
            File to write; its name must end with ``.safetensors``.

        Raises
        ------
        ValueError
            If `path` has another ending.
        """
        check_is_fitted(self)
        write_checkpoint(path, _as_checkpoint(dict(vars(self))))

    @atomic_fit
    def load_checkpoint(self, path: str | PathLike[str]) -> Self:
        """Load a fitted model from a file, without executing anything in the file.

        The parameters `module` and `width` must describe the network that was saved.

        Parameters
        ----------
        path : str or path-like
            File written by :meth:`save_checkpoint`, or by `fit` if `checkpoint` is set.

        Returns
        -------
        self : ConditionalDDPM
            The fitted estimator. With `warm_start`, `fit` continues its training.

        Raises
        ------
        FileNotFoundError
            If the file does not exist.
        ValueError
            If the file is not a checkpoint of this network.
        """
        device = resolve_device(self.device)

        def build(sample_shape: tuple[int, ...], n_classes: int) -> nn.Module:
            with seeded(0):
                return build_denoiser(self.module, self.width, sample_shape, n_classes)

        loaded = read_checkpoint(path, build)
        loaded.diffusion.module.to(device)
        self.diffusion_ = loaded.diffusion
        self.classes_ = loaded.classes
        self.forgotten_classes_ = loaded.forgotten_classes
        self.class_prior_ = loaded.class_prior
        self.loss_curve_ = loaded.loss_curve
        self.training_state_ = loaded.training_state
        self.input_shape_ = loaded.input_shape
        self.n_features_in_ = loaded.n_features_in
        self.n_iter_ = loaded.n_iter
        self.score_seed_ = loaded.score_seed
        if loaded.feature_names_in is not None:
            self.feature_names_in_ = loaded.feature_names_in
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self


def _as_checkpoint(fitted: dict[str, Any]) -> DDPMCheckpoint:
    """Return the content of a checkpoint, given the fitted attributes by name."""
    return DDPMCheckpoint(
        diffusion=fitted["diffusion_"],
        classes=fitted["classes_"],
        forgotten_classes=fitted["forgotten_classes_"],
        class_prior=fitted["class_prior_"],
        loss_curve=fitted["loss_curve_"],
        training_state=fitted["training_state_"],
        input_shape=fitted["input_shape_"],
        n_features_in=fitted["n_features_in_"],
        n_iter=fitted["n_iter_"],
        score_seed=fitted["score_seed_"],
        feature_names_in=fitted.get("feature_names_in_"),
    )
