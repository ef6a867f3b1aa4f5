"""Baselines: fine-tuning, gradient ascent, random labels, SalUn and the bad teacher."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from sklearn.callback import with_callbacks
from sklearn.utils._param_validation import Interval
from torch import nn
from torch.nn.functional import cross_entropy

from ...neural import AnySamples, device_of, log_probabilities
from ...utils._atomic import atomic_fit
from ...utils._typing import IntArray
from .._forget_request import ForgetRequest
from ..steps import (
    FineTuneConfig,
    Mask,
    Monitor,
    Record,
    fine_tune,
    private_randomness,
    summed_gradients,
    top_fraction_mask,
)
from ._base import BaseFineTuner, Loss, NetData, Task

# Indices of the samples to train on, and the target of each.
TrainingSet: TypeAlias = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class BaselineConfig:
    """Settings of :func:`baseline`.

    Parameters
    ----------
    training : FineTuneConfig
        Settings of the fine-tuning.
    training_set : callable
        Takes a :class:`NetData` and a RandomState. Returns the indices of the samples to train on,
        and the target of each; :func:`wrong_labels` is an example.
    loss : callable or None, default=None
        Maps a :class:`NetData`, the outputs for a batch and its targets to a scalar. None means
        the loss of the network.
    mask_fraction : float or None, default=None
        Fraction of the weights that may change, those that matter most for the forget set; None
        means all.
    freeze_norm : bool, default=False
        Whether normalization layers keep their running statistics.

    Examples
    --------
    >>> from sklearn_ext.unlearning.networks import BaselineConfig, wrong_labels
    >>> from sklearn_ext.unlearning.steps import FineTuneConfig
    >>> config = BaselineConfig(FineTuneConfig(1e-3), wrong_labels, mask_fraction=0.5)
    >>> config.freeze_norm
    False
    """

    training: FineTuneConfig
    training_set: Callable[[NetData, np.random.RandomState], TrainingSet]
    loss: Callable[[NetData, torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    mask_fraction: float | None = None
    freeze_norm: bool = False


def baseline(
    module: nn.Module,
    X: Any,
    codes: IntArray | torch.Tensor,
    request: ForgetRequest,
    config: BaselineConfig,
    rng: np.random.RandomState,
    *,
    loss: Loss = cross_entropy,
    monitor: Monitor | None = None,
) -> list[Record]:
    """Fine-tune a network in place on samples and targets that are chosen once.

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
    config : BaselineConfig
        Settings of the method.
    rng : numpy.random.RandomState
        Source of all random draws.
    loss : callable, default=torch.nn.functional.cross_entropy
        Maps outputs of the network and targets to the mean loss of a batch or, with
        ``reduction="none"``, to the losses of its samples.
    monitor : Monitor, default=None
        Follows the epochs.

    Returns
    -------
    list of dict
        One record per epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import NetClassifier
    >>> from sklearn_ext.unlearning import ForgetRequest
    >>> from sklearn_ext.unlearning.networks import BaselineConfig, baseline, wrong_labels
    >>> from sklearn_ext.unlearning.steps import FineTuneConfig
    >>> X, y = load_iris(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> net = NetClassifier(random_state=0).fit(X, y)
    >>> request = ForgetRequest.from_user(y == 2, len(y))
    >>> config = BaselineConfig(FineTuneConfig(learning_rate=1e-3), wrong_labels)
    >>> history = baseline(net.module_, X, y, request, config, np.random.RandomState(0))
    >>> len(history)
    5
    """
    if request.is_empty:
        return []
    with private_randomness(rng, device_of(module)) as generator:
        data = NetData(module, X, codes, request, loss)
        index, targets = config.training_set(data, rng)
        mask = None
        if config.mask_fraction is not None:
            mask = salient_weights(data, config.mask_fraction, config.training.batch_size)
        return fine_tune(
            data.module,
            len(index),
            lambda batch: (data.inputs(index[batch]), targets[batch]),
            loss if config.loss is None else partial(config.loss, data),
            config.training,
            generator,
            mask=mask,
            freeze_norm=config.freeze_norm,
            monitor=monitor,
        )


def retained_training_set(data: NetData, rng: np.random.RandomState) -> TrainingSet:
    """Return the retained samples with their classes."""
    return data.retain, data.codes[data.retain]


def forget_training_set(data: NetData, rng: np.random.RandomState) -> TrainingSet:
    """Return the samples to forget with their classes."""
    return data.forget, data.codes[data.forget]


def negative_loss(data: NetData, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the negative mean loss, so that descent climbs the loss."""
    return -data.loss(outputs, targets)


def wrong_labels(data: NetData, rng: np.random.RandomState) -> TrainingSet:
    """Return all samples, the samples to forget with random wrong classes.

    The wrong classes are as frequent as among the retained samples.

    Parameters
    ----------
    data : NetData
        The samples.
    rng : numpy.random.RandomState
        Draws the classes.

    Returns
    -------
    index : int64 tensor of shape (n_samples,)
        Indices of all samples.
    targets : int64 tensor of shape (n_samples,)
        Their class indices, wrong for the samples to forget.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_ext.unlearning import ForgetRequest
    >>> from sklearn_ext.unlearning.networks import NetData, wrong_labels
    >>> request = ForgetRequest.from_user([0, 1], n_samples=4)
    >>> X, codes = torch.zeros(4, 2), torch.tensor([0, 0, 0, 1])
    >>> data = NetData(torch.nn.Linear(2, 2), X, codes, request)
    >>> wrong_labels(data, np.random.RandomState(0))[1]
    tensor([1, 1, 0, 1])
    """
    forget_codes, codes = (data.codes[index].cpu().numpy() for index in (data.forget, data.retain))
    wrong = draw_wrong_labels(forget_codes, codes, rng)
    targets = data.codes.clone()
    targets[data.forget] = torch.as_tensor(wrong, device=data.device)
    return torch.arange(len(targets)), targets


def draw_wrong_labels(
    codes: IntArray, retained_codes: IntArray, rng: np.random.RandomState
) -> IntArray:
    """Draw a class other than its own for each sample, as frequent as among retained samples.

    Parameters
    ----------
    codes : ndarray of shape (n_forget,)
        Class indices of the samples.
    retained_codes : ndarray of shape (n_retained,)
        Class indices of the retained samples, of at least two classes.
    rng : numpy.random.RandomState
        Draws the classes.

    Returns
    -------
    ndarray of shape (n_forget,), int64
    """
    drawn = rng.choice(retained_codes, size=len(codes))
    while (same := drawn == codes).any():
        drawn[same] = rng.choice(retained_codes, size=same.sum())
    return drawn.astype(np.int64)


def salient_weights(data: NetData, fraction: float, batch_size: int) -> Mask:
    """Return the mask of the weights with the largest gradients on the forget set."""
    module = data.module.eval()
    parameters = {
        name: weight for name, weight in module.named_parameters() if weight.requires_grad
    }
    saliency = summed_gradients(data.batch_loss, parameters, data.forget.split(batch_size))
    return top_fraction_mask(saliency, fraction)


def teacher_targets(
    data: NetData,
    rng: np.random.RandomState,
    *,
    temperature: float,
    log_probabilities: Callable[[torch.Tensor], torch.Tensor],
) -> TrainingSet:
    """Return all samples with probabilities of the original net or of a random net.

    Targets of retained samples come from the original net, targets of the samples to forget from a
    copy of it with new random weights.
    """

    def probabilities(module: nn.Module, index: torch.Tensor) -> torch.Tensor:
        return (log_probabilities(data.outputs(index, module)) / temperature).softmax(dim=1)

    targets = probabilities(data.module, torch.arange(len(data.codes)))
    random_module = copy.deepcopy(data.module)
    for layer in random_module.modules():
        reset = getattr(layer, "reset_parameters", None)
        if reset is not None:
            reset()
    targets[data.forget] = probabilities(random_module, data.forget)
    return torch.arange(len(targets)), targets


def teacher_loss(
    data: NetData,
    outputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    temperature: float,
    log_probabilities: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """Return the mean divergence of a batch from the teachers."""
    return distillation(log_probabilities(outputs), targets, temperature)


def distillation(log_p: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    r"""Return the mean of :math:`\mathrm{KL}(q \,\|\, \mathrm{softmax}(z / T))` over samples.

    Parameters
    ----------
    log_p : tensor of shape (n, n_classes)
        Log-probabilities, which are logits z up to a constant for each sample.
    targets : tensor of shape (n, n_classes)
        Probabilities q.
    temperature : float
        The temperature T.

    Returns
    -------
    tensor, scalar
    """
    student = (log_p / temperature).log_softmax(dim=1)
    return (torch.xlogy(targets, targets) - targets * student).sum(dim=1).mean()


class BaseTargetUnlearner(BaseFineTuner, ABC):
    """An unlearner that fine-tunes on samples and targets that are chosen once."""

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
            Class labels of the samples. None takes them from a dataset.
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
        self.history_ = baseline(
            task.net.module_,
            task.X,
            task.codes,
            task.request,
            self._config(task),
            task.rng,
            loss=task.loss,
            monitor=task.monitor,
        )
        self._finish(task)
        return self

    @abstractmethod
    def _config(self, task: Task) -> BaselineConfig:
        """Return the settings of the algorithm."""


class FineTuneUnlearner(BaseTargetUnlearner):
    """Fine-tune on the retained samples only, so that the model forgets the others gradually.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    learning_rate : float, default=0.1
        Initial learning rate, which decays to 0 along half a cosine. On small
        networks, rates of up to four times that of the original training forget best.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="sgd"
        The optimizer. "sgd" uses a momentum of 0.9.

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
        One record per epoch.

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
    .. [1] C. Fan, J. Liu, Y. Zhang, E. Wong, D. Wei, S. Liu, "SalUn: Empowering Machine Unlearning
       via Gradient-based Weight Saliency in Both Image Classification and Generation",
       arXiv:2310.12508, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import FineTuneUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = FineTuneUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        learning_rate: float = 0.1,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "sgd",
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
            random_state=random_state,
            verbose=verbose,
        )

    def _config(self, task: Task) -> BaselineConfig:
        return BaselineConfig(self._training(task), retained_training_set)


class GradientAscentUnlearner(BaseTargetUnlearner):
    """Climb the loss of the samples to forget.

    Retained samples are not used. The loss is not bounded from above, so a learning rate that is
    slightly too large destroys the network. Normalization layers keep their running statistics.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    learning_rate : float, default=1e-2
        Initial learning rate, which decays to 0 along half a cosine.

    weight_decay : float, default=0
        Weight decay of the optimizer.

    max_epochs : int or "auto", default="auto"
        Passes over the samples. "auto" means five, or fewer if five passes would visit more than
        50,000 samples.

    batch_size : int or None, default=None
        Samples per step. None means the batch size of the net.

    optimizer : {"adamw", "adam", "sgd"} or torch.optim.Optimizer class, default="sgd"
        The optimizer. "sgd" uses a momentum of 0.9.

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
        One record per epoch.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    SFRonUnlearner : Climbs with steps of bounded length, and repairs the damage.

    References
    ----------
    .. [1] C. Fan, J. Liu, Y. Zhang, E. Wong, D. Wei, S. Liu, "SalUn: Empowering Machine Unlearning
       via Gradient-based Weight Saliency in Both Image Classification and Generation",
       arXiv:2310.12508, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import GradientAscentUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GradientAscentUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        learning_rate: float = 1e-2,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "sgd",
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
            random_state=random_state,
            verbose=verbose,
        )

    def _config(self, task: Task) -> BaselineConfig:
        return BaselineConfig(
            self._training(task), forget_training_set, loss=negative_loss, freeze_norm=True
        )


class RandomLabelUnlearner(BaseTargetUnlearner):
    """Train on all samples, with random wrong labels for the samples to forget.

    This method is also known as amnesiac unlearning. A wrong label is drawn once for each sample,
    with the class frequencies of the retained samples. It often forgets more than retraining would.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

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
        One record per epoch.

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
    .. [1] L. Graves, V. Nagisetty, V. Ganesh, "Amnesiac Machine Learning", AAAI, 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import RandomLabelUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RandomLabelUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def _config(self, task: Task) -> BaselineConfig:
        return BaselineConfig(self._training(task), wrong_labels)


class SalUnUnlearner(BaseTargetUnlearner):
    """Train with random wrong labels, but change only weights that matter for the forget set.

    Weights are ranked by the size of the gradient of the loss, summed over the samples to forget.
    The other weights keep their exact values.

    Parameters
    ----------
    estimator : skorch classifier, FrozenEstimator or None, default=None
        The model to unlearn from; X and y of `fit` are its training data. It is never changed.
        An unfitted estimator is fitted first. None means
        :class:`~sklearn_ext.neural.NetClassifier`.

    mask_fraction : float in [0, 1], default=0.5
        Fraction of the weights that may change.

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
        One record per epoch.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    RandomLabelUnlearner : Does the same with all weights.

    References
    ----------
    .. [1] C. Fan, J. Liu, Y. Zhang, E. Wong, D. Wei, S. Liu, "SalUn: Empowering Machine Unlearning
       via Gradient-based Weight Saliency in Both Image Classification and Generation",
       arXiv:2310.12508, 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import SalUnUnlearner
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SalUnUnlearner(random_state=0).fit(X, y, forget=[0, 7, 60])
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseTargetUnlearner._parameter_constraints,
        "mask_fraction": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        mask_fraction: float = 0.5,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        max_epochs: int | str = "auto",
        batch_size: int | None = None,
        optimizer: Any = "adamw",
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
            random_state=random_state,
            verbose=verbose,
        )
        self.mask_fraction = mask_fraction

    def _config(self, task: Task) -> BaselineConfig:
        return BaselineConfig(self._training(task), wrong_labels, mask_fraction=self.mask_fraction)


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
        One record per epoch.

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
            partial(teacher_targets, **settings),
            loss=partial(teacher_loss, **settings),
        )
