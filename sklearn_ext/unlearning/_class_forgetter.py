"""Forgetting classes in a diffusion model."""

import copy
import math
from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import column_or_1d

from ..generative import Noising, threads_for
from ..neural import (
    draw_seed,
    encode_labels,
    has_finite_parameters,
    seeded,
    torch_generator,
    validate_input,
)
from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._shared_docs import INPUT_FACTS, with_shared_docs
from ._class_losses import denoising_row_losses, redirection
from ._generator_base import BaseGeneratorForgetter, fitted_model
from .steps._fast_slow import SCHEDULES, FastSlowConfig, endless_batches, fast_slow, weighted_ascent
from .steps._fine_tuning import has_running_statistics
from .steps._masks import balanced_mask, density, squared_batch_gradients

_MASK_PASSES = 4
_MOST_MASK_BATCHES = 64
_NEXT = "next"
_NOTHING_FORGOTTEN = {
    "history_": [],
    "mask_": None,
    "mask_density_": 1.0,
    "n_forget_steps_": 0,
    "n_repair_steps_": 0,
}


@with_shared_docs({"input_facts": INPUT_FACTS})
class SFRonClassForgetter(BaseGeneratorForgetter):
    r"""Make a class-conditional diffusion model forget classes (SFRon).

    A few steps that spoil what the model knows of a class alternate with steps that repair what
    it knows of the others, in a small part of the time that training took. The loop is the one of
    :class:`SFRonUnlearner`, with denoising errors for losses.

    There is no guarantee that all traces are gone: judge the result by more than a classifier
    (:func:`~sklearn_ext.metrics.generation_report`).

    Parameters
    ----------
    estimator : ConditionalDDPM, FrozenEstimator or None, default=None
        The model; X and y of `fit` are its training data. It is never changed. One that is not
        fitted is fitted first; None is a :class:`ConditionalDDPM` with its defaults.

    n_iter : int, default=50
        Forget steps.

    n_repair : int, default=1
        Repair steps after each forget step. Without any, the other classes suffer.

    lr : float, default=3e-4
        Step length of Adam, which makes both kinds of steps.

    forget_loss : {"redirect", "ascent"}, default="redirect"
        "redirect" makes the name of the class mean another class, and is bounded. "ascent"
        climbs the denoising loss of the class's rows, as published; it overshoots, and what the
        model then gives for the class lies far from all data.

    redirect_to : label or "next", default="next"
        The class that takes the place of the forgotten one. "next" is the one behind it in
        `classes_`, or the first, without those that are forgotten.

    forget_alpha : float, default=10
        Scale of the first forget step's gradient, before it is clipped. It has no effect on steps
        that are clipped, which are most.

    clip_norm : float, default=1
        Largest length of the gradient of both kinds of steps.

    forget_schedule : {"cosine", "linear", "quadratic", "constant"}, default="cosine"
        How `forget_alpha` decays.

    lambd : float, default=0.5
        In an ascent, rows of a forget batch count like their losses to the power of ``-lambd``.

    loss_floor : float, default=1e-4
        Losses below count like this.

    gamma : float or None, default=1
        Weights may be changed by forget steps if their squared gradient for the rows to forget is
        at least so many times that for the others. None lets all change, which does twice the
        damage to the other classes.

    mask_batches : int or "auto", default="auto"
        Batches of each kind from which these gradients are known. "auto" makes four passes over
        the remaining rows, but 64 batches at most.

    slow_lr : float in (0, 1], default=1
        Share of each iteration's change that is kept.

    strict_mask : bool, default=False
        Whether forget steps leave the other weights exactly as they are. If not, the momentum of
        repair steps moves them.

    cond_drop_prob : float in [0, 1], default=0.1
        Share of rows whose class is hidden, as in training.

    batch_size : int, default=64
        Rows of a step.

    random_state : int, RandomState instance or None, default=None
        Seed of the original training, if there is any, and of all draws.

    verbose : int, default=0
        Prints the record of each iteration when positive.

    Attributes
    ----------
    estimator_ : ConditionalDDPM
        The model after forgetting. Its ``forgotten_classes_`` name the classes; it keeps no state
        from which training could go on, because the forgotten class is in there.

    original_estimator_ : ConditionalDDPM
        The model before.

    classes_ : ndarray of shape (n_classes,)
        Labels known to the original model.

    forget_idx_ : ndarray of int
        Rows of the forgotten classes.

    mask_ : dict of str to ndarray of bool, or None
        The weights that forget steps may change, by parameter.

    mask_density_ : float
        Their share.

    n_forget_steps_ : int
        Forget steps made.

    n_repair_steps_ : int
        Repair steps made.

    history_ : list of dict
        What happened in each iteration: denoising losses of the batches, and the length of the
        forget gradient before it was clipped.

    input_shape_ : tuple of int
        Shape of one row of X.

    {input_facts}

    See Also
    --------
    SFRonUnlearner : The same for rows of a classifier's training set.
    ConditionalDDPM : The model.

    References
    ----------
    .. [1] Z. Huang, X. Cheng, J. Zheng, H. Wang, Z. He, T. Li, X. Huang, "Unified Gradient-Based
       Machine Unlearning with Remain Geometry Enhancement", NeurIPS, 2024. arXiv:2409.19732.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import ConditionalDDPM, SFRonClassForgetter
    >>> X, y = load_iris(return_X_y=True)
    >>> model = ConditionalDDPM(max_iter=300, random_state=0).fit(X, y)
    >>> forgetter = SFRonClassForgetter(model, random_state=0).fit(X, y, forget_class=0)
    >>> forgetter.estimator_.forgotten_classes_
    array([0])
    >>> rows, labels = forgetter.sample(20, random_state=0)
    >>> bool((labels == 0).any())
    False
    """

    _parameter_constraints = {
        "estimator": "no_validation",
        "n_iter": [Interval(Integral, 0, None, closed="left")],
        "n_repair": [Interval(Integral, 0, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "forget_loss": [StrOptions({"redirect", "ascent"})],
        "redirect_to": "no_validation",
        "forget_alpha": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="right")],
        "forget_schedule": [StrOptions(set(SCHEDULES))],
        "lambd": [Interval(Real, 0, None, closed="left")],
        "loss_floor": [Interval(Real, 0, None, closed="neither")],
        "gamma": [Interval(Real, 0, None, closed="both"), None],
        "mask_batches": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "slow_lr": [Interval(Real, 0, 1, closed="right")],
        "strict_mask": ["boolean"],
        "cond_drop_prob": [Interval(Real, 0, 1, closed="both")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator=None,
        *,
        n_iter=50,
        n_repair=1,
        lr=3e-4,
        forget_loss="redirect",
        redirect_to="next",
        forget_alpha=10.0,
        clip_norm=1.0,
        forget_schedule="cosine",
        lambd=0.5,
        loss_floor=1e-4,
        gamma=1.0,
        mask_batches="auto",
        slow_lr=1.0,
        strict_mask=False,
        cond_drop_prob=0.1,
        batch_size=64,
        random_state=None,
        verbose=0,
    ):
        self.estimator = estimator
        self.n_iter = n_iter
        self.n_repair = n_repair
        self.lr = lr
        self.forget_loss = forget_loss
        self.redirect_to = redirect_to
        self.forget_alpha = forget_alpha
        self.clip_norm = clip_norm
        self.forget_schedule = forget_schedule
        self.lambd = lambd
        self.loss_floor = loss_floor
        self.gamma = gamma
        self.mask_batches = mask_batches
        self.slow_lr = slow_lr
        self.strict_mask = strict_mask
        self.cond_drop_prob = cond_drop_prob
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @atomic_fit
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, *, forget_class=None):
        """Train on all rows unless that has been done, then forget some classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            The rows that the original model was trained on, or will be. Rows of classes that it
            has forgotten before are left out.
        y : array-like of shape (n_samples,)
            Their classes.
        forget_class : label or array-like of labels, default=None
            The classes to forget. None asks for nothing: the original model comes back as it is.

        Returns
        -------
        self : SFRonClassForgetter
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, the data are not those of the model, a class is
            unknown, no row of it is in the data, no class would be left, or `lr` is so large
            that weights are no longer finite.
        TypeError
            If `estimator` is no ConditionalDDPM.
        """
        rng = local_random_state(self.random_state)
        original = fitted_model(self.estimator, X, y, rng)
        X, y = validate_input(self, X, y, reset=True)
        if self.input_shape_ != original.input_shape_:
            raise ValueError(
                f"estimator was fitted to rows of shape {original.input_shape_}, but the rows of X "
                f"have {self.input_shape_}."
            )
        codes = encode_labels(column_or_1d(y, warn=True), original.classes_)
        self.classes_ = original.classes_
        self.original_estimator_ = original
        self.estimator_ = copy.deepcopy(original)
        if forget_class is None:
            self.forget_idx_ = np.empty(0, dtype=np.int64)
            vars(self).update(copy.deepcopy(_NOTHING_FORGOTTEN))
            return self
        labels = np.unique(forget_class)
        if len(labels) == 0:
            raise ValueError("forget_class names no class; None asks for nothing.")
        forgotten = encode_labels(labels, self.classes_)
        to_forget = np.isin(codes, forgotten)
        to_retain = ~to_forget & ~np.isin(self.classes_, original.forgotten_classes_)[codes]
        self._check_request(labels, codes, forgotten, to_retain)
        self.forget_idx_ = np.flatnonzero(to_forget)
        device = original.diffusion_.device
        with seeded(draw_seed(rng), device), threads_for(original.diffusion_.row_shape):
            generator = torch_generator(draw_seed(rng), device)
            self._forget(X, codes, forgotten, to_forget, to_retain, generator)
        known = np.isin(self.classes_, [*original.forgotten_classes_, *labels])
        self.estimator_.forgotten_classes_ = self.classes_[known]
        self.estimator_.training_state_ = None
        return self

    def _check_request(self, labels, codes, forgotten, to_retain):
        missing = labels[~np.isin(forgotten, codes)]
        if len(missing):
            raise ValueError(f"forget_class names {missing}, of which there are no rows in X.")
        if not to_retain.any():
            raise ValueError("forget_class names the classes of all rows: nothing would be left.")

    def _forget(self, X, codes, forgotten, to_forget, to_retain, generator):
        """Change `estimator_`, and set what is known of how that went."""
        diffusion = self.estimator_.diffusion_
        module = diffusion.module
        x, c = diffusion.encode(X), diffusion.code_tensor(codes)
        forget, retain = (torch.as_tensor(np.flatnonzero(k)) for k in (to_forget, to_retain))
        noising = Noising(diffusion.levels, diffusion.null_code, self.cond_drop_prob, generator)
        losses = denoising_row_losses(module, noising, x, c)
        if self.forget_loss == "ascent":
            objective = weighted_ascent(losses, self.lambd, self.loss_floor)
        else:
            others = self._redirected(codes, forgotten, np.unique(codes[to_retain]))
            plain = Noising(diffusion.levels, diffusion.null_code, 0.0, generator)
            objective = redirection(module, plain, x, c, diffusion.code_tensor(others))
        mask = None
        if self.gamma is not None:
            mask = self._mask(diffusion, x, c, forget, retain, generator)
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        self.history_ = fast_slow(
            module,
            objective,
            losses,
            endless_batches(forget, self.batch_size, generator),
            endless_batches(retain, self.batch_size, generator),
            torch.optim.Adam(weights, lr=self.lr, fused=True),
            self._plan(module),
            mask=mask,
            report=self._report,
        )
        if not has_finite_parameters(module):
            raise ValueError(
                f"Forgetting has led to weights that are not finite: lower lr, got {self.lr!r}."
            )
        self.mask_ = mask if mask is None else {k: m.cpu().numpy() for k, m in mask.items()}
        self.mask_density_ = 1.0 if mask is None else density(mask)
        self.n_forget_steps_ = len(self.history_)
        self.n_repair_steps_ = len(self.history_) * self.n_repair

    def _redirected(self, codes, forgotten, kept):
        """Return the class that each row is to be taken for; kept classes are what they are."""
        codes = codes.copy()
        for code in forgotten:
            if isinstance(self.redirect_to, str) and self.redirect_to == _NEXT:
                target = kept[np.searchsorted(kept, code) % len(kept)]
            else:
                target = encode_labels([self.redirect_to], self.classes_)[0]
                if target not in kept:
                    raise ValueError(
                        f"redirect_to={self.redirect_to!r} must be a class that is kept: "
                        f"{self.classes_[kept]}."
                    )
            codes[codes == code] = target
        return codes

    def _mask(self, diffusion, x, codes, forget, retain, generator):
        """Return the weights that matter more for the rows to forget than for the others."""
        # Squares of mean gradients depend on the batch size, so it is the same on both sides.
        size = min(self.batch_size, len(forget), len(retain))
        n_batches = self.mask_batches
        if n_batches == "auto":
            n_batches = min(math.ceil(_MASK_PASSES * len(retain) / size), _MOST_MASK_BATCHES)
        module = diffusion.module.eval()
        noising = Noising(diffusion.levels, diffusion.null_code, 0.0, generator)
        losses = denoising_row_losses(module, noising, x, codes)
        parameters = {n: p for n, p in module.named_parameters() if p.requires_grad}

        def fisher(rows):
            batches = endless_batches(rows, size, generator)
            some = (next(batches) for _ in range(n_batches))
            return squared_batch_gradients(lambda b: losses(b).mean(), parameters, some)

        return balanced_mask(fisher(forget), fisher(retain), self.gamma)

    def _plan(self, module):
        return FastSlowConfig(
            max_iter=self.n_iter,
            n_repair=self.n_repair,
            normalize=False,
            forget_alpha=self.forget_alpha,
            clip_norm=self.clip_norm,
            schedule=self.forget_schedule,
            slow_learning_rate=self.slow_lr,
            strict_mask=self.strict_mask,
            freeze_norm=has_running_statistics(module),
            decay_rate=False,
            repair_clip=self.clip_norm,
        )

    def _report(self, record):
        if self.verbose:
            print(f"{type(self).__name__}: " + ", ".join(f"{k} {v:.4g}" for k, v in record.items()))
