"""Learning from teachers: the original network, and one that was never trained."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn.functional import cross_entropy

from ....neural import (
    AnySamples,
    device_of,
    log_probabilities,
    main_output,
    minibatches,
    n_minibatches,
)
from ....utils._atomic import atomic_fit
from ....utils._typing import IntArray
from ....utils.compat import with_callbacks
from ..._forget_request import ForgetRequest
from ...steps import FineTuneConfig, FineTuning, Monitor, Record, private_randomness
from .._base import BaseFineTuner, Task
from .._net_data import Loss, NetData
from .._trust_region import DEFAULT_LIMIT, RetainedLimit, TrustRegion
from ._algorithm import BaselineConfig, distillation, teacher_loss, teacher_targets
from ._fine_tuning import BaseTargetUnlearner


def _of_logits(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.log_softmax(dim=1)


@dataclass(frozen=True)
class SCRUBConfig:
    """Settings of :func:`scrub`; the parameters mean the same as in :class:`SCRUBUnlearner`.

    Parameters
    ----------
    training : FineTuneConfig
        Settings of the fine-tuning.
    alpha : float, default=0.5
        Weight of the divergence on the retained samples.
    gamma : float, default=1
        Weight of the loss on the retained samples.
    temperature : float, default=2
        Divides the logits of teacher and student.
    n_forget_epochs : int, default=3
        Number of epochs that begin with the samples to forget.
    log_probabilities : callable or None, default=None
        Maps outputs of the network to log-probabilities. None takes logits.
    limit : RetainedLimit, default=RetainedLimit()
        Limit on the loss of accuracy on retained samples.

    Examples
    --------
    >>> from sklearn_ext.unlearning.networks import SCRUBConfig
    >>> from sklearn_ext.unlearning.steps import FineTuneConfig
    >>> SCRUBConfig(FineTuneConfig(learning_rate=1e-3)).temperature
    2.0
    """

    training: FineTuneConfig
    alpha: float = 0.5
    gamma: float = 1.0
    temperature: float = 2.0
    n_forget_epochs: int = 3
    log_probabilities: Callable[[torch.Tensor], torch.Tensor] | None = None
    limit: RetainedLimit = DEFAULT_LIMIT


class BadTeacherUnlearner(BaseTargetUnlearner):
    """Learn retained samples from the original model, and the others from a random model.

    The targets are probabilities: those of the original model for the retained samples, and those
    of the same network with new random weights for the samples to forget. Layers get new weights
    through their method ``reset_parameters``; layers without it stay as they are.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    temperature : float, default=1
        Divides the logits of both teachers and of the student.

    learning_rate : float, default=1e-3
        Initial learning rate, which decays to 0 along half a cosine.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        The optimizer. "sgd" uses a momentum of 0.9.

    retained_tolerance : float in [0, 1] or None, default=0.05
        Largest loss of accuracy on the retained samples, 500 of which are watched. Changes that
        lose more are shortened, and the following steps are half as long. None means no limit.

    on_retained_loss : {"warn", "raise"}, default="warn"
        Whether `fit` warns or raises an error if the accuracy is still lower at the end.

    random_state : int, RandomState instance or None, default=None
        Seed of all random draws, and of the original training if there is one.

    verbose : int, default=0
        If positive, the record of each epoch is printed.

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

    history_ : list of dict
        One record per epoch, with the loss, the accuracies "FA" on samples to forget and "RA" on
        retained samples, and the fraction "kept" of the change.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    MUSOUnlearner : Also trains on the samples to forget, with labels of a retrained model.

    References
    ----------
    .. [1] V. Chundawat, A. Tarun, M. Mandal, M. Kankanhalli, "Can Bad Teaching Induce Forgetting?
       Unlearning in Deep Networks Using an Incompetent Teacher", arXiv:2205.08096, 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import BadTeacherUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BadTeacherUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseTargetUnlearner._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        temperature: float = 1.0,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "adamw",
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            retained_tolerance=retained_tolerance,
            on_retained_loss=on_retained_loss,
            random_state=random_state,
            verbose=verbose,
        )
        self.temperature = temperature

    def _config(self, task: Task) -> BaselineConfig:
        settings: dict[str, Any] = {
            "temperature": self.temperature,
            "log_probabilities": partial(log_probabilities, task.net),
        }
        return BaselineConfig(
            self._training(task),
            limit=self._limit(),
            training_set=partial(teacher_targets, **settings),
            loss=partial(teacher_loss, **settings),
        )


def scrub(
    module: nn.Module,
    X: Any,
    codes: IntArray | torch.Tensor,
    request: ForgetRequest,
    config: SCRUBConfig,
    rng: np.random.RandomState,
    *,
    loss: Loss = cross_entropy,
    monitor: Monitor | None = None,
) -> list[Record]:
    r"""Move a network away from itself on the forget set, and keep it on the rest [1]_.

    The original network is the teacher t. The first epochs begin with steps that climb
    :math:`\mathrm{KL}(p_t \,\|\, p)` on the forget set. All epochs descend

    .. math:: \gamma L_r + \alpha T^2\, \mathrm{KL}(p_t \,\|\, p)

    on the retained set, where the probabilities in the divergence have the temperature T.

    Parameters
    ----------
    module : torch.nn.Module
        A trained network, which is changed in place and stays in evaluation mode.
    X : array, tensor or reader
        Training data of the network, as in :class:`NetData`.
    codes : array or tensor of int64 of shape (n_samples,)
        Class indices of the samples.
    request : ForgetRequest
        The samples to forget and to retain.
    config : SCRUBConfig
        Settings of the method.
    rng : numpy.random.RandomState
        Source of all random draws.
    loss : callable, default=torch.nn.functional.cross_entropy
        Maps outputs of the network and targets to the mean loss of a batch.
    monitor : Monitor, default=None
        Follows the epochs.

    Returns
    -------
    list of dict
        One record per epoch.

    References
    ----------
    .. [1] M. Kurmanji, P. Triantafillou, J. Hayes, E. Triantafillou, "Towards Unbounded Machine
       Unlearning", NeurIPS, 2023. arXiv:2302.09880.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import NetClassifier
    >>> from sklearn_ext.unlearning import ForgetRequest
    >>> from sklearn_ext.unlearning.networks import SCRUBConfig, scrub
    >>> from sklearn_ext.unlearning.steps import FineTuneConfig
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NetClassifier(random_state=0).fit(X, y)
    >>> request = ForgetRequest.from_user(y == 2, len(y))
    >>> config = SCRUBConfig(FineTuneConfig(learning_rate=1e-3))
    >>> len(scrub(net.module_, X, y, request, config, np.random.RandomState(0)))
    5
    """
    if request.is_empty:
        return []
    with private_randomness(rng, device_of(module)) as generator:
        data = NetData(module, X, codes, request, loss)
        region = TrustRegion(data, config.limit, rng)
        log_p = _of_logits if config.log_probabilities is None else config.log_probabilities
        original = log_p(data.outputs(torch.arange(len(codes))))
        teacher = (original / config.temperature).softmax(dim=1)
        climbing = False

        def objective(outputs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
            divergence = config.temperature**2 * distillation(
                log_p(main_output(outputs)), teacher[index], config.temperature
            )
            if climbing:
                return -divergence
            return config.gamma * loss(outputs, data.codes[index]) + config.alpha * divergence

        size, n_retained = config.training.batch_size, len(data.retain)
        n_climbs = min(config.n_forget_epochs, config.training.n_epochs(n_retained))
        run = FineTuning(
            module,
            n_retained,
            objective,
            config.training,
            generator,
            n_extra_steps=n_climbs * n_minibatches(len(data.forget), size),
            monitor=monitor,
            guard=region,
        )
        run.begin()
        for epoch in range(run.n_epochs):
            climbing = epoch < n_climbs
            if climbing:
                for batch in minibatches(len(data.forget), size, generator):
                    index = data.forget[batch]
                    run.step(data.inputs(index), index)
                climbing = False
            for batch in run.batches():
                index = data.retain[batch]
                run.step(data.inputs(index), index)
            if run.end_epoch():
                break
        module.eval()
        region.close()
    return run.history


class SCRUBUnlearner(BaseFineTuner):
    """Depart from the original model on the forget set, and stay close to it elsewhere (SCRUB).

    The first epochs begin with steps that increase the divergence from the original model on the
    samples to forget. All epochs then reduce the loss and the divergence on the retained samples.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    alpha : float, default=0.5
        Weight of the divergence on the retained samples.

    gamma : float, default=1
        Weight of the loss on the retained samples.

    temperature : float, default=2
        Divides the logits of teacher and student.

    n_forget_epochs : int, default=3
        Number of epochs, counted from the first, that begin with the samples to forget.

    learning_rate : float, default=5e-4
        Initial learning rate, which decays to 0 along half a cosine.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="adamw"
        The optimizer. "sgd" uses a momentum of 0.9.

    retained_tolerance : float in [0, 1] or None, default=0.05
        Largest loss of accuracy on the retained samples, 500 of which are watched. Changes that
        lose more are shortened, and the following steps are half as long. None means no limit.

    on_retained_loss : {"warn", "raise"}, default="warn"
        Whether `fit` warns or raises an error if the accuracy is still lower at the end.

    random_state : int, RandomState instance or None, default=None
        Seed of all random draws, and of the original training if there is one.

    verbose : int, default=0
        If positive, the record of each epoch is printed.

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

    history_ : list of dict
        One record per epoch, with the loss, the accuracies "FA" on samples to forget and "RA" on
        retained samples, and the fraction "kept" of the change.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    BadTeacherUnlearner : Learns the samples to forget from a random model.

    References
    ----------
    .. [1] M. Kurmanji, P. Triantafillou, J. Hayes, E. Triantafillou, "Towards Unbounded Machine
       Unlearning", NeurIPS, 2023. arXiv:2302.09880.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import SCRUBUnlearner
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SCRUBUnlearner(random_state=0).fit(X / 16, y, forget=y == 3)
    >>> bool(model.score(X[y != 3] / 16, y[y != 3]) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseFineTuner._parameter_constraints,
        "alpha": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
        "n_forget_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        alpha: float = 0.5,
        gamma: float = 1.0,
        temperature: float = 2.0,
        n_forget_epochs: int = 3,
        learning_rate: float = 5e-4,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "adamw",
        retained_tolerance: float | None = 0.05,
        on_retained_loss: str = "warn",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            max_epochs=max_epochs,
            batch_size=batch_size,
            optimizer=optimizer,
            retained_tolerance=retained_tolerance,
            on_retained_loss=on_retained_loss,
            random_state=random_state,
            verbose=verbose,
        )
        self.alpha = alpha
        self.gamma = gamma
        self.temperature = temperature
        self.n_forget_epochs = n_forget_epochs

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: AnySamples, y: ArrayLike | None = None, *, forget: ArrayLike | None = None
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

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter is out of range, X or y is not finite or has the wrong shape, `forget`
            selects no sample, all samples, a sample twice or one that does not exist, `forget` is a
            mask of the wrong length, fewer than two classes would be left, or the training produces
            weights that are not finite.
        TypeError
            If `estimator` is not a skorch classifier, or `forget` is neither a mask nor indices.
        """
        task = self._begin(X, y, forget)
        config = SCRUBConfig(
            training=self._training(task),
            alpha=self.alpha,
            gamma=self.gamma,
            temperature=self.temperature,
            n_forget_epochs=self.n_forget_epochs,
            log_probabilities=partial(log_probabilities, task.net),
            limit=self._limit(),
        )
        self.history_ = scrub(
            task.net.module_,
            task.X,
            task.codes,
            task.request,
            config,
            task.rng,
            loss=task.loss,
            monitor=task.monitor,
        )
        self._finish(task)
        return self
