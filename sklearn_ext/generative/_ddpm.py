"""A small diffusion model of rows or images, with or without classes."""

import copy
import dataclasses
from numbers import Integral, Real
from os import PathLike

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d
from torch import nn

from ..neural import (
    draw_seed,
    resolve_device,
    seeded,
    torch_generator,
    validate_input,
)
from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._shared_docs import INPUT_FACTS, with_shared_docs
from ._base import BaseDDPM
from ._checkpoint import write_checkpoint
from ._diffusion import Diffusion
from ._schedules import SCHEDULES
from ._setup import auto_steps, build_denoiser, resolve_row_shape, resolve_unit_range
from ._threads import threads_for
from ._training import Recipe, Trainer

_VERBOSE_EVERY = 100
_POSITIVE = Interval(Integral, 1, None, closed="left")


@with_shared_docs({"input_facts": INPUT_FACTS})
class ConditionalDDPM(CallbackSupportMixin, BaseDDPM):
    r"""Denoising diffusion model of the rows of a table, or of small images.

    A network learns to find the noise in noisy rows; sampling begins with pure noise and takes
    what the network finds away, step by step. With labels in `fit` one network learns every
    class and can be asked for rows of each.

    Parameters
    ----------
    module : {"mlp", "unet"}, torch.nn.Module, callable or None, default=None
        The network. None is a residual MLP for rows of features, and a U-Net of two resolutions
        for images. A module of your own has ``forward(x, t, c)`` for rows x scaled to [-1, 1],
        times t in [0, 1) and class codes c, of which the one behind the last class means "any
        class", and returns the noise in x; it is copied. A callable builds it anew from the
        shape of a row and the number of classes.

    width : int or None, default=None
        Units of the MLP (None: 192) or channels of the U-Net (None: 32).

    image_shape : tuple of int or None, default=None
        Shape, (height, width) or (channels, height, width), in which the network sees the rows
        of a two-dimensional X.

    n_steps : int or "auto", default="auto"
        Number of training steps. "auto" is 256 passes over the rows, but 6,000 steps at most.

    batch_size : int, default=64
        Rows in a step, drawn with replacement.

    lr : float, default=2e-3
        Step length of Adam; it falls along a cosine to a hundredth.

    n_timesteps : int, default=1000
        Number T of steps from data to noise.

    schedule : {"linear", "cosine"}, default="linear"
        How the noise grows.

    cond_drop_prob : float in [0, 1], default=0.1
        Share of rows whose class is hidden in training, from which the model learns what rows
        of any class look like. Guidance needs it.

    ema_decay : float in [0, 1), default=0.999
        The model that samples has the exponential moving average of the weights in training,
        with this decay; 0 keeps the last weights.

    clip_norm : float, default=1
        Largest norm of a gradient.

    feature_range : tuple of (float, float) or "auto", default="auto"
        Values that become -1 and 1. "auto" is the range of each feature of a table, and the
        range of all pixels of images. Samples never leave it.

    checkpoint : str, path-like or None, default=None
        File, ending with ``.safetensors``, to which the state of the training is written.

    checkpoint_interval : int, default=1000
        Steps between two checkpoints.

    warm_start : bool, default=False
        Whether a further call of `fit` goes on from where training stood, up to `n_steps` steps
        in all. After :meth:`load_checkpoint` it ends with what it would have been without the
        break, bit by bit.

    device : str, torch.device or None, default=None
        Where to work: "cpu", "cuda", "mps", or "auto" for the best there is. None is the CPU.

    random_state : int, RandomState instance or None, default=None
        Seed of the weights and of training.

    verbose : int, default=0
        Prints the loss every 100 steps when positive.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels seen in `fit`; empty without labels.

    class_prior_ : ndarray of shape (n_classes,)
        Shares of the classes.

    forgotten_classes_ : ndarray
        Classes that the model was made to forget; :meth:`sample` refuses them.

    diffusion_ : Diffusion
        The network (``diffusion_.module``) with its schedule and the units in which it works.

    training_state_ : dict of str to ndarray, or None
        What training goes on from; None in a model that was made to forget a class.

    score_seed_ : int
        Seed of the noise by which :meth:`score_samples` judges.

    loss_curve_ : ndarray of shape (n_iter_,)
        Mean squared error per entry of the noise in every step's batch.

    n_iter_ : int
        Number of training steps.

    input_shape_ : tuple of int
        Shape of one row of X.

    {input_facts}

    See Also
    --------
    SFRonClassForgetter : Makes a fitted model forget a class.
    sklearn.neighbors.KernelDensity : Density estimation without training.

    Notes
    -----
    With :math:`x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, e` and standard normal
    noise e, training minimises the mean of :math:`\lVert e - \hat e(x_t, t, c) \rVert^2` over
    rows, steps t and noise [1]_. Guidance asks for :math:`(1 + w)\, \hat e(x_t, t, c) -
    w\, \hat e(x_t, t)` in place of :math:`\hat e(x_t, t, c)` [3]_.

    Small MLPs are trained on one thread, where two would only wait for each other.

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
    >>> rows, labels = model.sample(3, y=2, random_state=0)
    >>> rows.shape, labels
    ((3, 4), array([2, 2, 2]))
    """

    _parameter_constraints = {
        "module": [StrOptions({"mlp", "unet"}), nn.Module, callable, None],
        "width": [_POSITIVE, None],
        "image_shape": ["array-like", None],
        "n_steps": [_POSITIVE, StrOptions({"auto"})],
        "batch_size": [_POSITIVE],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "n_timesteps": [Interval(Integral, 2, None, closed="left")],
        "schedule": [StrOptions(set(SCHEDULES))],
        "cond_drop_prob": [Interval(Real, 0, 1, closed="both")],
        "ema_decay": [Interval(Real, 0, 1, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="right")],
        "feature_range": [StrOptions({"auto"}), tuple, list],
        "checkpoint": [str, PathLike, None],
        "checkpoint_interval": [_POSITIVE],
        "warm_start": ["boolean"],
        "device": "no_validation",
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        module=None,
        width=None,
        image_shape=None,
        n_steps="auto",
        batch_size=64,
        lr=2e-3,
        n_timesteps=1000,
        schedule="linear",
        cond_drop_prob=0.1,
        ema_decay=0.999,
        clip_norm=1.0,
        feature_range="auto",
        checkpoint=None,
        checkpoint_interval=1000,
        warm_start=False,
        device=None,
        random_state=None,
        verbose=0,
    ):
        self.module = module
        self.width = width
        self.image_shape = image_shape
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.lr = lr
        self.n_timesteps = n_timesteps
        self.schedule = schedule
        self.cond_drop_prob = cond_drop_prob
        self.ema_decay = ema_decay
        self.clip_norm = clip_norm
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
    def fit(self, X, y=None):
        """Train the denoiser from new weights, or go on training if `warm_start` is set.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            Rows or images.
        y : array-like of shape (n_samples,), default=None
            Classes to condition on, labels of any kind.

        Returns
        -------
        self : ConditionalDDPM
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, the data are not finite or do not fit the parameters,
            or training diverges.
        """
        resume = self.warm_start and hasattr(self, "diffusion_")
        callback_data = {"X": X, "y": y, "metadata": None}
        X, y = self._check_training_rows(X, y, resume)
        rng = local_random_state(self.random_state)
        device = resolve_device(self.device)
        row_shape = resolve_row_shape(self.image_shape, self.input_shape_)
        with seeded(draw_seed(rng), device), threads_for(row_shape):
            if not resume:
                self._prepare(X, y, row_shape, rng)
            module = copy.deepcopy(self.diffusion_.module).to(device)
            trainer = Trainer(module, torch_generator(draw_seed(rng), device))
            if resume:
                trainer.restore(self.training_state_)
            self._train(trainer, X, y, callback_data)
        return self

    def _check_training_rows(self, X, y, resume):
        """Return float32 rows, and labels or None."""
        if resume and self.training_state_ is None:
            raise ValueError(
                "warm_start has nothing to go on from: the state of the training went when the "
                f"model forgot {self.forgotten_classes_}."
            )
        if resume and (y is None) != (self.diffusion_.n_classes == 0):
            raise ValueError("warm_start needs labels if, and only if, the first fit had some.")
        if y is None:
            return validate_input(self, X, reset=not resume), None
        X, y = validate_input(self, X, y, reset=not resume)
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        return X, labels

    def _prepare(self, X, labels, row_shape, rng):
        """Set all that training does not change."""
        self.classes_ = np.empty(0) if labels is None else np.unique(labels)
        n_classes = len(self.classes_)
        counts = np.bincount(self._codes(labels, len(X)), minlength=n_classes)[:n_classes]
        self.class_prior_ = counts / len(X)
        self.forgotten_classes_ = self.classes_[:0]
        self.score_seed_ = draw_seed(rng)
        self.loss_curve_ = np.empty(0)
        self.diffusion_ = Diffusion(
            module=build_denoiser(self.module, self.width, row_shape, n_classes),
            levels=SCHEDULES[self.schedule](self.n_timesteps),
            unit_range=resolve_unit_range(self.feature_range, X, row_shape),
            row_shape=row_shape,
            n_classes=n_classes,
        )

    def _train(self, trainer, X, y, callback_data):
        """Train until `n_steps` steps are done, and set what was learned."""
        recipe = self._recipe(len(X), trainer.step)
        losses = self.loss_curve_.tolist()
        context = self._init_callback_context(max_subtasks=recipe.n_steps - trainer.step)
        context.call_on_fit_task_begin(estimator=self, **callback_data)

        def learned():
            average = copy.deepcopy(trainer.average).eval()
            return {
                "diffusion_": dataclasses.replace(self.diffusion_, module=average),
                "training_state_": trainer.state(),
                "n_iter_": trainer.step,
                "loss_curve_": np.array(losses),
            }

        def after_step(step, loss):
            losses.append(loss)
            last = step == recipe.n_steps
            if self.verbose and (last or step % _VERBOSE_EVERY == 0):
                recent = np.mean(losses[-_VERBOSE_EVERY:])
                print(f"{type(self).__name__}: step {step}/{recipe.n_steps}, loss {recent:.4f}")
            if self.checkpoint is not None and (last or step % self.checkpoint_interval == 0):
                write_checkpoint(self.checkpoint, {**vars(self), **learned()})
            task = context.subcontext("step").call_on_fit_task_begin(estimator=self)
            return task.call_on_fit_task_end(
                estimator=self, reconstruction_attributes=learned, **callback_data
            )

        try:
            trainer.run(self.diffusion_, *self._tensors(X, y), recipe, after_step)
        except FloatingPointError as error:
            raise ValueError(f"Training diverged: {error} Lower lr, got {self.lr!r}.") from error
        vars(self).update(learned())
        context.call_on_fit_task_end(
            estimator=self, reconstruction_attributes=lambda: {}, **callback_data
        )

    def _recipe(self, n_samples, n_done):
        n_steps = self.n_steps
        if n_steps == "auto":
            n_steps = auto_steps(n_samples, self.batch_size)
        if n_steps < n_done:
            raise ValueError(
                f"n_steps counts the steps of all fits: with warm_start it must be at least "
                f"n_iter_={n_done}, got {n_steps}."
            )
        return Recipe(
            n_steps=n_steps,
            batch_size=self.batch_size,
            lr=self.lr,
            cond_drop_prob=self.cond_drop_prob,
            ema_decay=self.ema_decay,
            clip_norm=self.clip_norm,
        )
