"""Fitted nets: copies of a user's estimator, their labels, outputs and features."""

import copy
from typing import Any

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.base import clone
from torch import nn

from ..utils._random import draw_seed
from ..utils._typing import Array, IntArray, RandomState
from ..utils._validation import unfrozen
from ._device import seeded
from ._features import head_of, outputs_and_features
from ._modules import device_of
from ._nets import NetClassifier, encode_labels

_PREDICTION_BATCH = 1024


def is_fitted_net(estimator: Any) -> bool:
    """Return whether `estimator` is a fitted net, possibly inside a FrozenEstimator."""
    return getattr(unfrozen(estimator), "initialized_", False) is True


def fitted_copy(
    estimator: Any, X: Array, y: ArrayLike, *, random_state: RandomState = None
) -> skorch.NeuralNetClassifier:
    """Return a fitted net that shares no state with the user's estimator.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None
        A fitted net is copied, and an unfitted net is cloned and fitted to the data. None means
        a :class:`NetClassifier`.
    X : ndarray of float32
    y : array-like of shape (n_samples,)
    random_state : int, RandomState instance or None, default=None
        Seeds the fit. A net whose own `random_state` is not None uses it instead.

    Returns
    -------
    skorch.NeuralNetClassifier

    Raises
    ------
    TypeError
        If `estimator` has another type.
    ValueError
        If a frozen net is not fitted, if the net is skorch's own and the labels are not 0, 1, ...,
        n_classes - 1, or if the number of outputs differs from the number of classes.
    """
    net = unfrozen(estimator)
    if net is None:
        net = NetClassifier()
    if not isinstance(net, skorch.NeuralNetClassifier):
        raise TypeError(
            "estimator must be None, a skorch.NeuralNetClassifier such as "
            "sklearn_ext.NetClassifier, or a FrozenEstimator around one, "
            f"got {estimator!r}."
        )
    if net.initialized_:
        return _check_outputs(copy.deepcopy(net), X)
    if net is not estimator and estimator is not None:
        raise ValueError("estimator is a FrozenEstimator, but the net inside it is not fitted.")
    net = clone(net)
    seed = draw_seed(random_state)
    if isinstance(net, NetClassifier):
        if net.random_state is None:
            net.set_params(random_state=seed)
        return net.fit(X, y)
    with seeded(seed, net.device):
        return _check_outputs(net.fit(X, _check_plain_labels(y)), X)


def _check_plain_labels(y: ArrayLike) -> IntArray:
    """Return labels as int64, and reject those that skorch's own classifier cannot encode."""
    y = np.asarray(y)
    classes = np.unique(y)
    if not np.array_equal(classes, np.arange(len(classes))):
        raise ValueError(
            "skorch.NeuralNetClassifier takes labels 0, 1, ..., n_classes - 1, got "
            f"{classes}. Use sklearn_ext.NetClassifier for other labels."
        )
    return y.astype(np.int64)


def _check_outputs(net: skorch.NeuralNetClassifier, X: Array) -> skorch.NeuralNetClassifier:
    if isinstance(net, NetClassifier):  # its own fit has checked the outputs
        return net
    n_outputs, n_classes = predict_logits(net.module_, X[:1]).shape[1], len(class_labels(net))
    if n_outputs != n_classes:
        raise ValueError(
            f"The module of the estimator has {n_outputs} outputs, but {n_classes} classes are "
            "known. If some classes do not occur in y, list all of them in skorch's parameter "
            "`classes`."
        )
    return net


def class_labels(net: skorch.NeuralNetClassifier) -> Array:
    """Return the labels of a fitted net in the order of its outputs."""
    if isinstance(net, NetClassifier):
        return net.classes_
    # The labels of skorch's own classifier are the indices of its outputs.
    return np.arange(int(np.max(net.classes_)) + 1)


def class_codes(net: skorch.NeuralNetClassifier, y: ArrayLike) -> IntArray:
    """Return the index of the output that each label belongs to, as int64.

    Raises
    ------
    ValueError
        If the net was not trained on a label.
    """
    return encode_labels(y, class_labels(net))


@torch.no_grad()
def predict_logits(
    module: nn.Module, X: Array | torch.Tensor, *, batch_size: int | None = None
) -> torch.Tensor:
    """Return the raw outputs of a module, which stays in evaluation mode.

    Parameters
    ----------
    module : torch.nn.Module
    X : ndarray or tensor of shape (n_samples, ...)
    batch_size : int or None, default=None
        Number of samples in a forward pass; None means 1,024.

    Returns
    -------
    tensor of shape (n_samples, n_outputs)
    """
    module.eval()
    X = torch.as_tensor(X, device=device_of(module))
    batches = X.split(_PREDICTION_BATCH if batch_size is None else batch_size)
    return torch.cat([module(batch) for batch in batches])


@torch.no_grad()
def penultimate(
    net: skorch.NeuralNet,
    X: Array | torch.Tensor,
    *,
    head: str | None = None,
    batch_size: int | None = None,
) -> torch.Tensor:
    """Return the features that the head of a fitted net receives in evaluation mode.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : ndarray or tensor of shape (n_samples, ...)
    head : str or None, default=None
        Name of the head, as for :func:`head_of`.
    batch_size : int or None, default=None
        Number of samples in a forward pass; None means 1,024.

    Returns
    -------
    tensor of shape (n_samples, n_penultimate)
    """
    module = net.module_.eval()
    layer = head_of(module, head)
    X = torch.as_tensor(X, device=device_of(module))
    batches = X.split(_PREDICTION_BATCH if batch_size is None else batch_size)
    return torch.cat([outputs_and_features(module, batch, layer)[1] for batch in batches])


def log_probabilities(net: skorch.NeuralNet, outputs: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities that correspond to the outputs of a net's module.

    The outputs are logits if the criterion is the cross-entropy. With skorch's default,
    ``NLLLoss``, they are probabilities, and skorch takes their logarithm.

    Raises
    ------
    ValueError
        If the net has another criterion.
    """
    if isinstance(net.criterion_, nn.CrossEntropyLoss):
        return outputs.log_softmax(dim=1)
    if isinstance(net.criterion_, nn.NLLLoss):
        return torch.log(outputs + torch.finfo(outputs.dtype).eps)
    raise ValueError(
        "The criterion of the net must be torch.nn.CrossEntropyLoss or torch.nn.NLLLoss, "
        f"got {type(net.criterion_).__name__}."
    )
