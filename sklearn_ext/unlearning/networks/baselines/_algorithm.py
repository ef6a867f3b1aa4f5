"""Fine-tuning on samples and targets that are chosen once, the algorithm of most baselines."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ....neural import device_of, main_output
from ....utils._typing import IntArray
from ..._forget_request import ForgetRequest
from ...steps import (
    FineTuneConfig,
    Mask,
    Monitor,
    Record,
    fine_tune,
    private_randomness,
    summed_gradients,
    top_fraction_mask,
)
from .._net_data import Loss, NetData
from .._trust_region import DEFAULT_LIMIT, RetainedLimit, TrustRegion

# Indices of the samples to train on, and the target of each.
TrainingSet: TypeAlias = tuple[torch.Tensor, torch.Tensor]
Factors: TypeAlias = dict[str, torch.Tensor]  # of gradients, by parameter name


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
    prepare : callable or None, default=None
        Takes a :class:`NetData` and a RandomState, and changes the network before the fine-tuning.
        Returns factors of the gradients by parameter name, or None.
    limit : RetainedLimit, default=RetainedLimit()
        Limit on the loss of accuracy on retained samples.

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
    prepare: Callable[[NetData, np.random.RandomState], Factors | None] | None = None
    limit: RetainedLimit = DEFAULT_LIMIT


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
        region = TrustRegion(data, config.limit, rng)
        factors = None
        if config.prepare is not None:
            factors = config.prepare(data, rng)
            region.start_anew()
        history = fine_tune(
            data.module,
            len(index),
            lambda batch: (data.inputs(index[batch]), targets[batch]),
            loss if config.loss is None else partial(config.loss, data),
            config.training,
            generator,
            mask=mask,
            factors=factors,
            freeze_norm=config.freeze_norm,
            monitor=monitor,
            guard=region,
        )
        region.close()
    return history


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
    """Return all samples as a training set in which the samples to forget have wrong classes.

    The wrong classes are drawn with the class frequencies of the retained samples.

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
    """Draw another class for each sample, with the class frequencies of the retained samples.

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
    """Return all samples with the probabilities of the original or of a random net as targets.

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
    log_p = log_probabilities(main_output(outputs))
    return distillation(log_p, targets, temperature)


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
