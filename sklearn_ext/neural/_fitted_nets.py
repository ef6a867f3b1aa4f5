"""From an estimator that a user passes to a fitted net of our own, and what it computes."""

import copy

import numpy as np
import skorch
import torch
from sklearn.base import clone
from torch import nn

from ..utils._nested import unfrozen
from ..utils._random import draw_seed
from ._device import seeded
from ._features import head_of, outputs_and_features
from ._nets import NetClassifier, encode_labels

_PREDICTION_BATCH = 1024


def is_fitted_net(estimator) -> bool:
    """Whether `estimator` is a fitted net, perhaps inside a FrozenEstimator."""
    return getattr(unfrozen(estimator), "initialized_", False) is True


def fitted_copy(estimator, X, y, *, random_state=None) -> skorch.NeuralNetClassifier:
    """Return a fitted net that shares nothing with the estimator of a user.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None
        A fitted net, bare or frozen, is copied; one that is not is cloned and fitted to the
        data; None is a :class:`NetClassifier`.
    X : ndarray of float32
    y : array-like of shape (n_samples,)
    random_state : int, RandomState instance or None, default=None
        Seeds the fit. A net with a `random_state` of its own that is not None keeps it.

    Returns
    -------
    skorch.NeuralNetClassifier

    Raises
    ------
    TypeError
        If `estimator` is none of these.
    ValueError
        If a frozen net is not fitted, labels are not what skorch's own class can take, or a net
        has another number of outputs than of classes.
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
        return _with_an_output_a_class(copy.deepcopy(net), X)
    if net is not estimator and estimator is not None:
        raise ValueError("estimator is a FrozenEstimator whose net is not fitted.")
    net = clone(net)
    seed = draw_seed(random_state)
    if isinstance(net, NetClassifier):
        if net.random_state is None:
            net.set_params(random_state=seed)
        return net.fit(X, y)
    with seeded(seed, net.device):
        return _with_an_output_a_class(net.fit(X, _plain_targets(y)), X)


def _plain_targets(y):
    y = np.asarray(y)
    classes = np.unique(y)
    if not np.array_equal(classes, np.arange(len(classes))):
        raise ValueError(
            "skorch.NeuralNetClassifier takes labels 0, 1, ..., n_classes - 1, got "
            f"{classes}; sklearn_ext.NetClassifier takes any."
        )
    return y.astype(np.int64)


def _with_an_output_a_class(net, X):
    if isinstance(net, NetClassifier):  # has looked in its own fit
        return net
    n_outputs, n_classes = predict_logits(net, X[:1]).shape[1], len(class_labels(net))
    if n_outputs != n_classes:
        raise ValueError(
            f"The module of the estimator has {n_outputs} outputs, but {n_classes} classes are "
            "known. If y lacks some, name all of them in skorch's parameter `classes`."
        )
    return net


def class_labels(net: skorch.NeuralNetClassifier) -> np.ndarray:
    """Return the labels that the outputs of a fitted net stand for, in their order."""
    if isinstance(net, NetClassifier):
        return net.classes_
    return np.arange(int(np.max(net.classes_)) + 1)  # skorch's labels are positions of outputs


def class_codes(net: skorch.NeuralNetClassifier, y) -> np.ndarray:
    """Return the outputs of a fitted net that labels mean, as int64.

    Raises
    ------
    ValueError
        If a label is unknown to the net.
    """
    return encode_labels(y, class_labels(net))


def to_tensor(X: np.ndarray, net: skorch.NeuralNet) -> torch.Tensor:
    """Return an array as a tensor on the device of a net; on the CPU it shares memory."""
    return torch.as_tensor(X, device=net.device)


@torch.no_grad()
def predict_logits(net: skorch.NeuralNet, X, *, batch_size: int | None = None) -> torch.Tensor:
    """Return what the module of a fitted net returns, in evaluation mode.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : ndarray or tensor of shape (n_samples, ...)
    batch_size : int or None, default=None
        Rows of a forward pass; None is 1,024.

    Returns
    -------
    tensor of shape (n_samples, n_outputs)
    """
    module = net.module_.eval()
    batches = to_tensor(X, net).split(batch_size or _PREDICTION_BATCH)
    return torch.cat([module(batch) for batch in batches])


@torch.no_grad()
def penultimate(
    net: skorch.NeuralNet, X, *, head: str | None = None, batch_size: int | None = None
) -> torch.Tensor:
    """Return what the head of a fitted net sees, in evaluation mode.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : ndarray or tensor of shape (n_samples, ...)
    head : str or None, default=None
        Name of the layer as for :func:`head_of`.
    batch_size : int or None, default=None
        Rows of a forward pass; None is 1,024.

    Returns
    -------
    tensor of shape (n_samples, n_penultimate)
    """
    module = net.module_.eval()
    layer = head_of(module, head)
    batches = to_tensor(X, net).split(batch_size or _PREDICTION_BATCH)
    return torch.cat([outputs_and_features(module, batch, layer)[1] for batch in batches])


def log_probabilities(net: skorch.NeuralNet, outputs: torch.Tensor) -> torch.Tensor:
    """Return the log of the probabilities that outputs of the module mean.

    Logits where the criterion is the cross-entropy; probabilities where it is skorch's default,
    ``NLLLoss``, whose logarithm skorch takes itself.

    Raises
    ------
    ValueError
        If the criterion is neither.
    """
    if isinstance(net.criterion_, nn.CrossEntropyLoss):
        return outputs.log_softmax(dim=1)
    if isinstance(net.criterion_, nn.NLLLoss):
        return torch.log(outputs + torch.finfo(outputs.dtype).eps)
    raise ValueError(
        "The criterion of the net must be torch.nn.CrossEntropyLoss or torch.nn.NLLLoss, "
        f"got {type(net.criterion_).__name__}."
    )
