"""Fitted nets: copies of a user's estimator, their labels, outputs and features."""

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.base import clone
from skorch.utils import is_dataset

from ..utils._random import draw_seed
from ..utils._typing import Array, IntArray, RandomState
from ..utils._validation import unfrozen
from ._conventional_net import copied_net, interrupts_raised
from ._device import seeded
from ._input import AnySamples, LabeledDataset, n_samples_of, select_samples
from ._modules import has_finite_parameters
from ._nets import NetClassifier, encode_labels
from ._outputs import raw_outputs


def is_fitted_net(estimator: Any) -> bool:
    """Return whether `estimator` is a fitted net, possibly inside a FrozenEstimator."""
    return getattr(unfrozen(estimator), "initialized_", False) is True


def fitted_copy(
    estimator: Any,
    X: AnySamples,
    y: ArrayLike,
    *,
    random_state: RandomState = None,
    training: Callable[[Any], AbstractContextManager[None]] = nullcontext,
) -> skorch.NeuralNetClassifier:
    """Return a fitted net that shares no state with the user's estimator.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None
        A fitted net is copied, and an unfitted net is cloned and fitted to the data. None means
        a :class:`NetClassifier`.
    X : samples in any form
    y : array-like of shape (n_samples,)
    random_state : int, RandomState instance or None, default=None
        Seeds the fit. A net whose own `random_state` is not None uses it instead.
    training : callable, default=nullcontext
        Context of the fit of a net that supports scikit-learn's callbacks.

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
        return _check_outputs(copied_net(net), X)
    if net is not estimator and estimator is not None:
        raise ValueError("estimator is a FrozenEstimator, but the net inside it is not fitted.")
    net = clone(net)
    seed = draw_seed(random_state)
    if isinstance(net, NetClassifier):
        if net.random_state is None:
            net.set_params(random_state=seed)
        with training(net):
            return net.fit(X, y)
    with seeded(seed, net.device), interrupts_raised(net):
        labels = _check_plain_labels(y)
        # skorch trains on the labels inside a dataset.
        net.fit(LabeledDataset(X, labels) if is_dataset(X) else X, labels)
    return _check_outputs(_check_losses(net), X)


def _check_losses(net: skorch.NeuralNet) -> skorch.NeuralNet:
    """Raise ValueError if training has diverged; our own nets raise it by themselves."""
    losses = [epoch.get("train_loss", 0.0) for epoch in net.history]
    diverged = [k for k, loss in enumerate(losses, start=1) if not np.isfinite(loss)]
    if diverged or not has_finite_parameters(net.module_):
        epoch = diverged[0] if diverged else len(losses)
        raise ValueError(
            f"Training of the estimator has diverged: its loss or its weights are not finite in "
            f"epoch {epoch} at lr={net.lr}. X or y may need scaling, or lr may be too large."
        )
    return net


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
    # Normalization without running statistics needs two samples.
    first = select_samples(X, np.arange(min(2, n_samples_of(X))))
    n_outputs, n_classes = raw_outputs(net, first).shape[1], len(class_labels(net))
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


def loss_of_outputs(
    net: skorch.NeuralNet, outputs: Any, targets: Any, *, X: Any = None, training: bool = False
) -> torch.Tensor:
    """Return the loss of a batch by the net's own `get_loss`, which may have further parameters.

    Parameters
    ----------
    net : skorch.NeuralNet
    outputs : tensor, tuple of tensors or dict of tensors
    targets : tensor
    X : tensor, dict of tensors or None, default=None
        The inputs of the batch; None if the algorithm does not know them.
    training : bool, default=False

    Raises
    ------
    ValueError
        If `get_loss` requires the inputs, and they are None.
    """
    taken = _keywords_of(getattr(net.get_loss, "__func__", net.get_loss))
    if X is None and taken.get("X", False):
        raise ValueError(
            f"{type(net).__name__}.get_loss requires X, but the loss is computed from outputs and "
            "targets here. Give X a default value in get_loss."
        )
    given = {"X": X, "training": training}
    return net.get_loss(
        outputs, targets, **{k: v for k, v in given.items() if k in taken or "**" in taken}
    )


@functools.lru_cache(maxsize=64)
def _keywords_of(function: Callable[..., Any]) -> dict[str, bool]:
    """Return the keywords that a function takes, and whether each is required."""
    parameters = inspect.signature(function).parameters.values()
    named = {p.name: p.default is p.empty for p in parameters if p.kind is not p.VAR_KEYWORD}
    return {**named, "**": False} if any(p.kind is p.VAR_KEYWORD for p in parameters) else named
