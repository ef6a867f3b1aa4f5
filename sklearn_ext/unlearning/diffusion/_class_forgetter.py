"""Forgetting classes in a diffusion model."""

import copy
from functools import partial
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, DensityMixin, _fit_context, clone
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, column_or_1d
from torch.utils.data import Dataset

from ...generative import (
    AdaptedModule,
    BaseDiffusionModel,
    ConditionalDDPM,
    DiffusionModel,
    threads_for,
)
from ...neural import (
    draw_seed,
    encode_labels,
    seeded,
    select_samples,
    torch_generator,
    validate_input,
)
from ...utils._atomic import atomic_fit
from ...utils._estimators import one_line
from ...utils._random import local_random_state
from ...utils._typing import Array, FloatArray, IntArray, RandomState
from ...utils._validation import unfrozen
from ...utils.compat import CallbackSupportMixin, with_callbacks
from ..steps import SCHEDULES, Record, density
from ._fast_slow_forgetting import ClassForgetting, ClassForgettingConfig, forget_classes


class SFRonClassForgetter(CallbackSupportMixin, DensityMixin, BaseEstimator):
    r"""Make a class-conditional diffusion model forget classes (SFRon).

    Forget steps, which degrade the model on the classes to forget, alternate with repair steps,
    which restore it on the other classes. This takes a small fraction of the time of training. The
    loop is that of :class:`SFRonUnlearner`, with denoising errors as losses.

    Traces of the classes may remain. Do not rely on a classifier alone to evaluate the result: it
    may assign a class to samples that resemble no data. Use
    :func:`~sklearn_ext.metrics.generation_report`, for instance.

    Parameters
    ----------
    estimator : ConditionalDDPM, DiffusionModel, FrozenEstimator or None, default=None
        The model. The X and y of `fit` are its training data. It is never changed. An unfitted
        model is fitted first; None is a :class:`ConditionalDDPM` with default parameters. Wrap a
        trained network of your own in a :class:`~sklearn_ext.generative.DiffusionModel`.

    max_iter : int, default=50
        Number of forget steps.

    n_repair : int, default=1
        Number of repair steps after each forget step. With 0 the other classes are damaged.

    learning_rate : float, default=3e-4
        Learning rate of Adam, which makes both kinds of steps.

    forget_loss : {"redirect", "ascent"}, default="redirect"
        "redirect" gives the class the meaning of another class, with a bounded loss. "ascent"
        climbs the denoising loss of the class's samples, as published [1]_ (see
        :meth:`from_paper`). It overshoots: the model then generates samples of the class that are
        far from all data.

    redirect_to : label or "next", default="next"
        The class that takes the place of the forgotten one. "next" is the next class in
        `classes_`, or the first after the last; forgotten classes are skipped.

    forget_alpha : float, default=10.0
        Scale of the first forget step's gradient, before it is clipped. Most gradients are
        clipped, and it has no effect on those steps.

    clip_norm : float, default=1.0
        Largest norm of the gradient, in both kinds of steps.

    forget_schedule : {"cosine", "linear", "quadratic", "constant"}, default="cosine"
        Decay of `forget_alpha`.

    lambd : float, default=0.5
        In an ascent, the samples of a forget batch are weighted by their losses to the power
        ``-lambd``.

    loss_floor : float, default=1e-4
        When these sample weights are computed, losses are clipped from below at this value.

    saliency_threshold : float or None, default=1.0
        Forget steps may change a weight if its mean squared gradient on the samples to forget is
        at least this many times that on the others. With None, all weights may change, which
        doubles the damage to the other classes.

    mask_batches : int or "auto", default="auto"
        Number of batches of forget samples, and of retained samples, from which these gradients
        are estimated. "auto" makes four passes over the retained samples, but at most 64 batches.

    slow_learning_rate : float in (0, 1], default=1.0
        Fraction of each iteration's displacement that is kept.

    strict_mask : bool, default=False
        Whether forget steps leave the weights outside the mask exactly unchanged. Otherwise the
        momentum of repair steps moves them.

    cond_drop_prob : float in [0, 1], default=0.1
        Fraction of samples whose class is hidden, as in training. It has no effect on a network
        that was trained without a code for "any class".

    batch_size : int, default=64
        Number of samples per step.

    random_state : int, RandomState instance or None, default=None
        Seed of all draws, and of the training of an unfitted model.

    verbose : int, default=0
        If positive, print the record of each iteration.

    Attributes
    ----------
    estimator_ : ConditionalDDPM or DiffusionModel
        The model after forgetting. Its ``forgotten_classes_`` lists the classes. It has no state
        from which training could continue, because that contains the forgotten classes. The
        changed network of a DiffusionModel is its attribute ``module_``.

    original_estimator_ : ConditionalDDPM or DiffusionModel
        The model before forgetting.

    classes_ : ndarray of shape (n_classes,)
        Class labels of the original model.

    forget_idx_ : ndarray of int
        Indices of the samples of the forgotten classes.

    mask_ : dict of str to ndarray of bool, or None
        The weights that forget steps could change, by parameter name; None without a mask.

    mask_density_ : float
        Fraction of the weights that are in the mask.

    n_iter_ : int
        Number of iterations; 0 if nothing was to be forgotten.

    n_forget_steps_ : int
        Number of forget steps.

    n_repair_steps_ : int
        Number of repair steps.

    history_ : list of dict
        One record per iteration, with the denoising losses of the batches and the norm of the
        forget gradient before clipping.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    SFRonUnlearner : The same method for training samples of a classifier.
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
    >>> X_new, y_new = forgetter.sample(20, random_state=0)
    >>> bool((y_new == 0).any())
    False
    """

    _parameter_constraints: dict[str, Any] = {
        "estimator": "no_validation",
        "max_iter": [Interval(Integral, 0, None, closed="left")],
        "n_repair": [Interval(Integral, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "forget_loss": [StrOptions({"redirect", "ascent"})],
        "redirect_to": "no_validation",
        "forget_alpha": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="right")],
        "forget_schedule": [StrOptions(set(SCHEDULES))],
        "lambd": [Interval(Real, 0, None, closed="left")],
        "loss_floor": [Interval(Real, 0, None, closed="neither")],
        "saliency_threshold": [Interval(Real, 0, None, closed="both"), None],
        "mask_batches": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "slow_learning_rate": [Interval(Real, 0, 1, closed="right")],
        "strict_mask": ["boolean"],
        "cond_drop_prob": [Interval(Real, 0, 1, closed="both")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        max_iter: int = 50,
        n_repair: int = 1,
        learning_rate: float = 3e-4,
        forget_loss: str = "redirect",
        redirect_to: Any = "next",
        forget_alpha: float = 10.0,
        clip_norm: float = 1.0,
        forget_schedule: str = "cosine",
        lambd: float = 0.5,
        loss_floor: float = 1e-4,
        saliency_threshold: float | None = 1.0,
        mask_batches: int | str = "auto",
        slow_learning_rate: float = 1.0,
        strict_mask: bool = False,
        cond_drop_prob: float = 0.1,
        batch_size: int = 64,
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.max_iter = max_iter
        self.n_repair = n_repair
        self.learning_rate = learning_rate
        self.forget_loss = forget_loss
        self.redirect_to = redirect_to
        self.forget_alpha = forget_alpha
        self.clip_norm = clip_norm
        self.forget_schedule = forget_schedule
        self.lambd = lambd
        self.loss_floor = loss_floor
        self.saliency_threshold = saliency_threshold
        self.mask_batches = mask_batches
        self.slow_learning_rate = slow_learning_rate
        self.strict_mask = strict_mask
        self.cond_drop_prob = cond_drop_prob
        self.batch_size = batch_size
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @classmethod
    def from_paper(cls, estimator: Any = None, **params: Any) -> Self:
        """Return the forgetter with the settings that the authors use for CIFAR-10.

        This sets the weighted ascent of the denoising loss, scaled by 10 and clipped to a norm of
        1, in place of the redirection; 50 iterations with one repair step each; and batches of 128
        samples with a learning rate of 1e-4 [1]_. On small images, these steps are too short to
        forget a class completely. Use these settings for comparisons.

        Parameters
        ----------
        estimator : ConditionalDDPM, DiffusionModel, FrozenEstimator or None, default=None
            The model.
        **params
            Other parameters of the class, which take precedence.

        Returns
        -------
        SFRonClassForgetter
            The unfitted estimator.

        References
        ----------
        .. [1] Z. Huang, X. Cheng, J. Zheng, H. Wang, Z. He, T. Li, X. Huang, "Unified
           Gradient-Based Machine Unlearning with Remain Geometry Enhancement", NeurIPS, 2024.
           arXiv:2409.19732.

        Examples
        --------
        >>> from sklearn_ext import SFRonClassForgetter
        >>> SFRonClassForgetter.from_paper(max_iter=100).learning_rate
        0.0001
        """
        published: dict[str, Any] = {
            "max_iter": 50,
            "n_repair": 1,
            "learning_rate": 1e-4,
            "forget_loss": "ascent",
            "forget_alpha": 10.0,
            "clip_norm": 1.0,
            "forget_schedule": "cosine",
            "lambd": 0.5,
            "saliency_threshold": 1.0,
            "slow_learning_rate": 1.0,
            "cond_drop_prob": 0.1,
            "batch_size": 128,
        }
        return cls(estimator, **published | params)

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return one line with the parameters that differ from their defaults.

        Parameters
        ----------
        N_CHAR_MAX : int, default=700
            Maximum number of characters.
        """
        return one_line(self, N_CHAR_MAX)

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: Any, y: ArrayLike | None, *, forget_class: Any = None) -> Self:
        """Fit the model unless it is fitted, then make it forget classes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width), or torch.utils.data.Dataset
            The training data of the original model. Samples of classes that it was made to forget
            before are left out. A map-style dataset of pairs (sample, label) is read batch by
            batch.
        y : array-like of shape (n_samples,)
            Class labels. None means the labels in the dataset.
        forget_class : label or array-like of labels, default=None
            The classes to forget. None forgets nothing: `estimator_` equals the original model.

        Returns
        -------
        self : SFRonClassForgetter
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, the data are not those of the model, a class is
            unknown, X has no samples of it, no class would be retained, or `learning_rate` is so
            large that weights are no longer finite.
        TypeError
            If `estimator` is neither a ConditionalDDPM nor a DiffusionModel.
        """
        data = {"X": X, "y": y, "metadata": None}  # scorers of callbacks do not accept forget_class
        rng = local_random_state(self.random_state)
        original = _fitted_model(self.estimator, X, y, rng)
        samples, y = validate_input(self, X, y, reset=True, any_form=isinstance(X, Dataset))
        if self.input_shape_ != original.input_shape_:
            raise ValueError(
                f"estimator was fitted to samples of shape {original.input_shape_}, but the "
                f"samples of X have shape {self.input_shape_}."
            )
        codes = encode_labels(column_or_1d(y, warn=True), original.classes_)
        self.classes_ = original.classes_
        self.original_estimator_ = original
        if forget_class is None:
            self.estimator_ = copy.deepcopy(original)
            self.forget_idx_ = np.empty(0, dtype=np.int64)
            self._set_result(None)
            self._begin_report(0, data).call_on_fit_task_end(estimator=self, **data)
            return self
        labels = np.unique(forget_class)
        forget_codes, is_used = self._check_request(labels, codes)
        self.forget_idx_ = np.flatnonzero(np.isin(codes, forget_codes))
        diffusion = original.diffusion_
        config = self._config(np.setdiff1d(codes[is_used], forget_codes), diffusion.knows_any_class)
        context = self._begin_report(config.max_iter, data)
        with seeded(draw_seed(rng), diffusion.device), threads_for(diffusion.sample_shape):
            generator = torch_generator(draw_seed(rng), diffusion.device)
            try:
                result = forget_classes(
                    diffusion.module,
                    diffusion.encode(select_samples(samples, np.flatnonzero(is_used))),
                    diffusion.code_tensor(codes[is_used]),
                    forget_codes,
                    levels=diffusion.levels,
                    n_classes=diffusion.n_classes,
                    config=config,
                    generator=generator,
                    prediction=diffusion.prediction,
                    report=partial(self._report, context),
                )
            except FloatingPointError as error:
                raise ValueError(
                    f"{error} Use a learning_rate below {self.learning_rate!r}."
                ) from error
        self._set_result(result)
        self.estimator_ = original.with_forgotten_classes(labels, result.module)
        context.call_on_fit_task_end(estimator=self, **data)
        return self

    def _check_request(self, labels: Array, codes: IntArray) -> tuple[IntArray, Array]:
        """Return the class codes to forget, and the mask of the samples that take part."""
        if len(labels) == 0:
            raise ValueError(
                "forget_class must name at least one class, got an empty list; pass None to forget "
                "nothing."
            )
        forget_codes = encode_labels(labels, self.classes_, name="forget_class")
        missing = labels[~np.isin(forget_codes, codes)]
        if len(missing) > 0:
            raise ValueError(
                f"forget_class names {missing}, but X has no samples of these classes."
            )
        in_forget_set = np.isin(codes, forget_codes)
        earlier = np.isin(self.classes_, self.original_estimator_.forgotten_classes_)
        is_used = in_forget_set | ~earlier[codes]
        if not (is_used & ~in_forget_set).any():
            raise ValueError(
                "At least one class must be retained, but forget_class contains all of them: "
                f"{labels}."
            )
        return forget_codes, is_used

    def _config(self, retained: IntArray, knows_any_class: bool) -> ClassForgettingConfig:
        redirect_to = None
        is_next = isinstance(self.redirect_to, str) and self.redirect_to == "next"
        if self.forget_loss == "redirect" and not is_next:
            redirect_to = int(
                encode_labels([self.redirect_to], self.classes_, name="redirect_to")[0]
            )
            if redirect_to not in retained:
                raise ValueError(
                    "redirect_to must be 'next' or one of the retained classes "
                    f"{self.classes_[retained]}, got {self.redirect_to!r}."
                )
        return ClassForgettingConfig(
            max_iter=self.max_iter,
            n_repair=self.n_repair,
            learning_rate=self.learning_rate,
            forget_loss=self.forget_loss,
            redirect_to=redirect_to,
            forget_alpha=self.forget_alpha,
            clip_norm=self.clip_norm,
            forget_schedule=self.forget_schedule,
            lambd=self.lambd,
            loss_floor=self.loss_floor,
            saliency_threshold=self.saliency_threshold,
            mask_batches=None if isinstance(self.mask_batches, str) else self.mask_batches,
            slow_learning_rate=self.slow_learning_rate,
            strict_mask=self.strict_mask,
            cond_drop_prob=self.cond_drop_prob if knows_any_class else 0.0,
            batch_size=self.batch_size,
        )

    def _set_result(self, result: ClassForgetting | None) -> None:
        mask = None if result is None else result.mask
        self.history_ = [] if result is None else result.history
        # Users know the names in their own network, not those in the module around it.
        adapted = result is not None and isinstance(result.module, AdaptedModule)
        prefix = "module." if adapted else ""
        self.mask_ = (
            None
            if mask is None
            else {k.removeprefix(prefix): m.cpu().numpy() for k, m in mask.items()}
        )
        self.mask_density_ = 1.0 if mask is None else density(mask)
        self.n_iter_ = self.n_forget_steps_ = len(self.history_)
        self.n_repair_steps_ = len(self.history_) * self.n_repair

    def _begin_report(self, n_steps: int, data: dict[str, Any]) -> Any:
        context = self._init_callback_context(max_subtasks=n_steps)
        return context.call_on_fit_task_begin(estimator=self, **data)

    def _report(self, context: Any, record: Record) -> bool:
        """Report an iteration, and return whether a callback asks to stop."""
        if self.verbose > 0:
            values = ", ".join(f"{name} {value:.4g}" for name, value in record.items())
            print(f"[{type(self).__name__}] {values}")
        step = context.subcontext("step").call_on_fit_task_begin(estimator=self)
        return step.call_on_fit_task_end(estimator=self)

    def sample(
        self, n_samples: int = 1, y: Any = None, **options: Any
    ) -> tuple[FloatArray, Array | None]:
        """Draw samples from the changed model.

        Parameters
        ----------
        n_samples : int, default=1
            Number of samples.
        y : label or array-like of shape (n_samples,), default=None
            The class of all samples, or of each. None draws from the classes that are not
            forgotten.
        **options
            Other arguments of :meth:`ConditionalDDPM.sample`.

        Returns
        -------
        X : ndarray of float32
            The samples.
        y : ndarray of shape (n_samples,)
            Class label of each sample.
        """
        check_is_fitted(self)
        return self.estimator_.sample(n_samples, y, **options)

    def reconstruct(self, X: ArrayLike, y: ArrayLike | None = None, **options: Any) -> FloatArray:
        """Add noise to samples and let the changed model remove it.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Class label of each sample. None allows any class for each sample.
        **options
            Other arguments of :meth:`ConditionalDDPM.reconstruct`.

        Returns
        -------
        ndarray of float32, of the shape of X
            The reconstructions, in the units of X.
        """
        check_is_fitted(self)
        return self.estimator_.reconstruct(X, y, **options)

    def score_samples(self, X: ArrayLike, y: ArrayLike | None = None, **options: Any) -> FloatArray:
        """Score samples by how well the changed model denoises them.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Class label of each sample. None allows any class for each sample.
        **options
            Other arguments of :meth:`ConditionalDDPM.score_samples`.

        Returns
        -------
        ndarray of shape (n_samples,)
            Higher values are more like the training data.
        """
        check_is_fitted(self)
        return self.estimator_.score_samples(X, y, **options)

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """Return the mean of :meth:`score_samples`.

        Parameters
        ----------
        X : array-like
            Samples of the same shape as in `fit`.
        y : array-like of shape (n_samples,), default=None
            Class label of each sample. None allows any class for each sample.

        Returns
        -------
        float
            Higher values are more like the training data.
        """
        check_is_fitted(self)
        return self.estimator_.score(X, y)


def _fitted_model(
    estimator: Any, X: Any, y: ArrayLike | None, rng: np.random.RandomState
) -> ConditionalDDPM | DiffusionModel:
    """Return a fitted copy of the model that the parameter `estimator` means."""
    model = unfrozen(estimator)
    if model is None:
        model = ConditionalDDPM()
    if not isinstance(model, BaseDiffusionModel):
        raise TypeError(
            "estimator must be None, a ConditionalDDPM, a DiffusionModel around a trained network, "
            f"or a FrozenEstimator around one of them, got {estimator!r}."
        )
    if hasattr(model, "diffusion_"):
        if model.diffusion_.n_classes == 0:
            raise ValueError(
                "estimator must be fitted with labels to forget a class, but it was fitted without "
                "labels."
            )
        return copy.deepcopy(model)
    if estimator is not None and model is not estimator:
        raise ValueError(
            "estimator is a FrozenEstimator around a model that is not fitted. Fit the model first."
        )
    model = clone(model)
    if model.random_state is None:
        model.set_params(random_state=draw_seed(rng))
    return model.fit(X, y)
