"""The estimator of SFRon, which forgets by bounded ascent and repair."""

from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

from ...neural import AnySamples
from ...utils._atomic import atomic_fit
from ...utils.compat import with_callbacks
from ..steps import OPTIMIZERS, SCHEDULES, density
from ._base import BaseUnlearner, Task, check_given_together
from ._sfron_algorithm import SFRonConfig, sfron


class SFRonUnlearner(BaseUnlearner):
    r"""Saliency forgetting in the remain-preserving manifold, online (SFRon).

    Steps that climb the loss of the samples to forget alternate with steps that descend the loss of
    the retained samples. The ascent gives more weight to samples that are still fitted well, and
    changes only weights that matter more for the samples to forget. The alternation preserves the
    rest of the model, because it acts like the inverse Hessian of the remaining loss.

    The result is close to a retrained model, but traces of the samples may remain.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    max_iter : int or "auto", default="auto"
        Number of forget steps. "auto" means five passes over the retained samples, but at most 200
        steps.

    n_repair : int, default=1
        Repair steps after each forget step.

    learning_rate : float or None, default=None
        Initial learning rate of both kinds of steps, which decays to 0 along half a cosine. None
        means the rate of the net.

    forget_step : {"normalize", "clip"}, default="normalize"
        Whether the forget gradient is rescaled to a given length, or multiplied by a factor and
        clipped as in the paper. The right factor differs between networks by orders of magnitude.

    forget_norm : float, default=1
        Length of the first normalized forget gradient.

    forget_alpha : float, default=10
        Factor of the first forget gradient with ``forget_step="clip"``. It has no effect while all
        gradients are clipped.

    clip_norm : float, default=1
        Largest length of a forget gradient with ``forget_step="clip"``.

    forget_schedule : {"cosine", "linear", "quadratic", "constant"}, default="cosine"
        Decay of the length and of the factor.

    lambd : float, default=0.5
        In a forget batch, samples are weighted by their losses to the power of ``-lambd``.

    loss_floor : float, default=1e-4
        When these sample weights are computed, losses are clipped from below at this value.

    saliency_threshold : float or None, default=1
        Forget steps may change a weight if its squared gradient on the samples to forget is at
        least this multiple of its squared gradient on the retained samples. With None,
        all weights may change.

    slow_learning_rate : float in (0, 1], default=1
        Fraction of each iteration's change that is kept.

    stop_forget_score : float, "auto" or None, default="auto"
        Iterations skip the forget step while the accuracy on the samples to forget is not above
        this value. "auto" estimates the accuracy of a retrained model. The estimate is the accuracy
        of a label model that is fitted to the retained samples, as in :class:`MUSOUnlearner`, times
        the ratio of the original model's accuracy to that of the label model on `X_val`, if given.
        It is mixed with the accuracy of the original model, whose weight is larger the less it has
        memorized. With None, no step is skipped, which usually forgets too much.

    optimizer : {"adamw", "adam", "sgd"}, torch.optim.Optimizer class or None, default=None
        The optimizer. "sgd" uses a momentum of 0.9. None means that of the net, with its
        parameters.

    weight_decay : float, default=0
        Weight decay, if `optimizer` is given.

    shared_optimizer : bool, default=True
        Whether forget and repair steps share an optimizer and therefore its momentum. Otherwise,
        forget steps are plain gradient steps, which are weaker.

    strict_mask : bool, default=False
        Whether forget steps leave the weights outside the mask exactly unchanged. Otherwise,
        momentum and weight decay may move them.

    freeze_norm : bool or "auto", default="auto"
        Whether normalization layers keep their running statistics in forget steps. "auto" means
        True if the network has such layers.

    fisher : {"batch", "sample"}, default="batch"
        Whether gradients are squared per batch, as in the paper, or per sample.

    mask_max_samples : int, "auto" or None, default="auto"
        Largest number of retained samples that the mask is computed from. "auto" means 5,000, or
        200 for each sample to forget if that is less. None means all.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    retained_targets : {"auto", "outputs", "labels"}, default="auto"
        Targets of the retained samples. "outputs" are the probabilities of the original network,
        which preserve its predictions for these samples. "labels", as in the paper, train it
        further. "auto" means "outputs" if the loss of the network takes probabilities, and "labels"
        otherwise.

    retained_tolerance : float in [0, 1] or None, default=0.05
        Largest loss of accuracy on the retained samples, 500 of which are watched. Changes that
        lose more are shortened, and the following steps are half as long. None means no limit.

    on_retained_loss : {"warn", "raise"}, default="warn"
        Whether `fit` warns or raises an error if the accuracy is still lower at the end.

    random_state : int, RandomState instance or None, default=None
        Seed of all random draws, and of the original training if there is one.

    verbose : int, default=0
        If positive, the record of each iteration is printed.

    Attributes
    ----------
    estimator_ : skorch classifier
        The unlearned model.

    original_estimator_ : skorch classifier
        The original model.

    classes_ : ndarray of shape (n_classes,)
        Class labels of the original model.

    forget_idx_ : ndarray of int
        Indices of the samples to forget.

    mask_ : dict of str to ndarray of bool, or None
        Weights that forget steps may change, by parameter name. None means all of them.

    mask_density_ : float
        Fraction of the weights that are in the mask.

    stop_forget_score_ : float or None
        Accuracy on the samples to forget at which forgetting pauses.

    n_forget_steps_ : int
        Number of forget steps.

    n_repair_steps_ : int
        Number of repair steps.

    n_iter_ : int
        Number of iterations, with or without a forget step; 0 without samples to forget.

    stopped_ : bool
        Whether any forget step was skipped.

    history_ : list of dict
        One record per iteration.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    MUSOUnlearner : Trains with labels that a retrained model would give.
    GradientAscentUnlearner : Climbs the loss without repair.

    References
    ----------
    .. [1] Z. Huang, X. Cheng, J. Zheng, H. Wang, Z. He, T. Li, X. Huang, "Unified Gradient-Based
       Machine Unlearning with Remain Geometry Enhancement", NeurIPS, 2024. arXiv:2409.19732.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import SFRonUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SFRonUnlearner(random_state=0).fit(X / 16, y, forget=y == 3)
    >>> bool((model.predict(X[y == 3] / 16) == 3).mean() < 0.05)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseUnlearner._parameter_constraints,
        "max_iter": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "n_repair": [Interval(Integral, 0, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "forget_step": [StrOptions({"normalize", "clip"})],
        "forget_norm": [Interval(Real, 0, None, closed="left")],
        "forget_alpha": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="right")],
        "forget_schedule": [StrOptions(set(SCHEDULES))],
        "lambd": [Interval(Real, 0, None, closed="left")],
        "loss_floor": [Interval(Real, 0, None, closed="neither")],
        "saliency_threshold": [Interval(Real, 0, None, closed="left"), None],
        "slow_learning_rate": [Interval(Real, 0, 1, closed="right")],
        "stop_forget_score": [Interval(Real, 0, 1, closed="both"), StrOptions({"auto"}), None],
        "optimizer": [StrOptions(set(OPTIMIZERS)), callable, None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "shared_optimizer": ["boolean"],
        "strict_mask": ["boolean"],
        "freeze_norm": ["boolean", StrOptions({"auto"})],
        "fisher": [StrOptions({"batch", "sample"})],
        "retained_targets": [StrOptions({"auto", "outputs", "labels"})],
        "mask_max_samples": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
            None,
        ],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        max_iter: int | str = "auto",
        n_repair: int = 1,
        learning_rate: float | None = None,
        forget_step: str = "normalize",
        forget_norm: float = 1.0,
        forget_alpha: float = 10.0,
        clip_norm: float = 1.0,
        forget_schedule: str = "cosine",
        lambd: float = 0.5,
        loss_floor: float = 1e-4,
        saliency_threshold: float | None = 1.0,
        slow_learning_rate: float = 1.0,
        stop_forget_score: float | str | None = "auto",
        optimizer: Any = None,
        weight_decay: float = 0.0,
        shared_optimizer: bool = True,
        strict_mask: bool = False,
        freeze_norm: bool | str = "auto",
        fisher: str = "batch",
        mask_max_samples: int | str | None = "auto",
        batch_size: int | None = None,
        retained_targets: str = "auto",
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.max_iter = max_iter
        self.n_repair = n_repair
        self.learning_rate = learning_rate
        self.forget_step = forget_step
        self.forget_norm = forget_norm
        self.forget_alpha = forget_alpha
        self.clip_norm = clip_norm
        self.forget_schedule = forget_schedule
        self.lambd = lambd
        self.loss_floor = loss_floor
        self.saliency_threshold = saliency_threshold
        self.slow_learning_rate = slow_learning_rate
        self.stop_forget_score = stop_forget_score
        self.optimizer = optimizer
        self.weight_decay = weight_decay
        self.shared_optimizer = shared_optimizer
        self.strict_mask = strict_mask
        self.freeze_norm = freeze_norm
        self.fisher = fisher
        self.mask_max_samples = mask_max_samples
        self.batch_size = batch_size
        self.retained_targets = retained_targets
        self.retained_tolerance = retained_tolerance
        self.on_retained_loss = on_retained_loss
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def from_paper(cls, estimator: Any = None, **params: Any) -> Self:
        """Return the unlearner with the settings that the authors use for CIFAR-10.

        This sets the forget step of equations 5 and 6 of the paper, which is scaled by 25 and
        clipped to a length of 7, with no stop score; 300 iterations with five repair steps each;
        and SGD with a learning rate of 0.01 and a weight decay of 5e-4. These constants do not
        transfer to other networks. Use them for comparisons.

        Parameters
        ----------
        estimator : skorch classifier, FrozenEstimator or None, default=None
            The model to unlearn from.
        **params
            Other parameters of the class, which take precedence.

        Returns
        -------
        SFRonUnlearner
            The unfitted estimator.
        """
        published: dict[str, Any] = {
            "max_iter": 300,
            "n_repair": 5,
            "learning_rate": 0.01,
            "forget_step": "clip",
            "forget_alpha": 25.0,
            "clip_norm": 7.0,
            "optimizer": "sgd",
            "weight_decay": 5e-4,
            "stop_forget_score": None,
            "mask_max_samples": None,
            "retained_targets": "labels",
            "retained_tolerance": None,
        }
        return cls(estimator, **published | params)

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: AnySamples,
        y: ArrayLike | None = None,
        *,
        forget: ArrayLike | None = None,
        X_val: AnySamples = None,
        y_val: ArrayLike | None = None,
    ) -> Self:
        """Fit the original model unless it is fitted already, then forget some of its samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            Training data of the original model, including the samples to forget. A tensor, a dict
            of arrays or a map-style :class:`torch.utils.data.Dataset` is read batch by batch.
        y : array-like of shape (n_samples,) or None, default=None
            Class labels of the samples. With None, X must be a dataset that contains them.
        forget : array-like of bool of shape (n_samples,), or of int, default=None
            Mask or indices of the samples to forget. With None, nothing is forgotten, and
            `estimator_` is a copy of the original model. In cross-validation, pass a mask: it is
            split together with the samples.
        X_val : array-like of shape (n_validation, ...), default=None
            Samples that the original model was not trained on. They improve the estimate of the
            score at which forgetting pauses.
        y_val : array-like of shape (n_validation,), default=None
            Class labels of these samples.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, X or y is not finite or has the wrong shape, `forget`
            selects no sample, all samples, a sample twice or one that does not exist, `forget` is a
            mask of the wrong length, fewer than two classes would be left, only one of `X_val` and
            `y_val` is given, or the steps produce weights that are not finite.
        TypeError
            If `estimator` is not a skorch classifier, or `forget` is neither a mask nor indices.
        """
        check_given_together(X_val, y_val)
        task = self._begin(X, y, forget)
        samples_val, codes_val = self._held_out(task, X_val, y_val)
        config = self._config(task)
        try:
            result = sfron(
                task.net.module_,
                task.X,
                task.codes,
                task.request,
                config,
                task.rng,
                initial=task.initial,
                X_val=samples_val,
                codes_val=codes_val,
                loss=task.loss,
                monitor=task.monitor,
            )
        except FloatingPointError as error:
            raise ValueError(
                f"{error} Use a learning_rate below {config.learning_rate:g}."
            ) from error
        self._finish(task)
        mask, n_iter = result.mask, len(result.history)
        self.mask_ = None
        if mask is not None:
            self.mask_ = {name: selected.cpu().numpy() for name, selected in mask.items()}
        self.mask_density_ = 1.0 if mask is None else density(mask)
        self.stop_forget_score_ = result.stop_forget_score
        self.n_forget_steps_ = result.n_forget_steps
        self.n_repair_steps_ = n_iter * self.n_repair
        self.n_iter_ = n_iter
        self.stopped_ = result.n_forget_steps < n_iter
        self.history_ = result.history
        return self

    def _config(self, task: Task) -> SFRonConfig:
        rate = task.net.lr if self.learning_rate is None else self.learning_rate
        optimizer = _optimizer_of(task.net) if self.optimizer is None else self.optimizer
        return SFRonConfig(
            learning_rate=rate,
            batch_size=task.batch_size(self.batch_size),
            max_iter=self.max_iter,
            n_repair=self.n_repair,
            forget_step=self.forget_step,
            forget_norm=self.forget_norm,
            forget_alpha=self.forget_alpha,
            clip_norm=self.clip_norm,
            forget_schedule=self.forget_schedule,
            lambd=self.lambd,
            loss_floor=self.loss_floor,
            saliency_threshold=self.saliency_threshold,
            slow_learning_rate=self.slow_learning_rate,
            stop_forget_score=self.stop_forget_score,
            optimizer=optimizer,
            weight_decay=self.weight_decay,
            shared_optimizer=self.shared_optimizer,
            strict_mask=self.strict_mask,
            freeze_norm=self.freeze_norm,
            fisher=self.fisher,
            mask_max_samples=self.mask_max_samples,
            retained_targets=self.retained_targets,
            limit=self._limit(),
        )


def _optimizer_of(net: skorch.NeuralNetClassifier) -> Callable[..., torch.optim.Optimizer]:
    """Return a function that makes a new optimizer like that of a net, at another rate."""

    def make(
        weights: Iterable[torch.Tensor], *, lr: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        named = [(name, p) for name, p in net.module_.named_parameters() if p.requires_grad]
        args, kwargs = net.get_params_for_optimizer("optimizer", named)
        return net.optimizer(*args, **kwargs | {"lr": lr})

    return make
