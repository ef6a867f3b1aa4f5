"""Copies of a net that are ready to receive the weights of a soup."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import skorch
import torch
from sklearn.base import clone, is_classifier
from torch.utils.data import Dataset

from ...neural import (
    AnySamples,
    ConventionalNet,
    LabeledDataset,
    NetClassifier,
    NetRegressor,
    class_codes,
    class_labels,
    copied_net,
    interrupts_raised,
    is_fitted_net,
    n_samples_of,
    raw_outputs,
    seeded,
    select_samples,
)
from ...neural.files import KeyMap
from ...utils._typing import Array
from ...utils._validation import unfrozen
from ...utils._warnings import warn_caller
from ._layout import first_not_finite, layout_of, tensors_of_ingredient

_DEFAULT_EPOCHS = 10  # ingredients of a soup may be trained briefly


def net_of(estimator: Any, sources: Any) -> skorch.NeuralNet:
    """Return the net that defines the architecture: the user's, or that of the first ingredient.

    Parameters
    ----------
    estimator : skorch.NeuralNet, FrozenEstimator or None
    sources : list or None
        Ingredients.

    Returns
    -------
    skorch.NeuralNet
        The object itself, fitted or not; nothing is copied.

    Raises
    ------
    TypeError
        If `estimator` is not a net.
    """
    first = sources[0] if isinstance(sources, (list, tuple)) and len(sources) > 0 else None
    net = unfrozen(first if estimator is None else estimator)
    if isinstance(net, torch.nn.Module) and estimator is None:
        return NetClassifier(net, max_epochs=_DEFAULT_EPOCHS)
    if estimator is None and not isinstance(net, skorch.NeuralNet):
        return NetClassifier(max_epochs=_DEFAULT_EPOCHS)
    if not isinstance(net, skorch.NeuralNet):
        raise TypeError(
            "estimator must be None, a skorch net such as sklearn_ext.NetClassifier or "
            f"NetRegressor, or a FrozenEstimator around one, got {estimator!r}."
        )
    return net


def initialized_copy(net: skorch.NeuralNet, X: Any, y: Array, *, seed: int) -> skorch.NeuralNet:
    """Return a copy of a net that is ready to receive weights.

    A fitted net is copied with its weights and classes. A net that was only initialized is copied
    with its weights, and takes its classes from y. Any other net is initialized by a fit of the
    data with zero epochs.

    Parameters
    ----------
    net : skorch.NeuralNet
        It is not changed.
    X : object
        Inputs in any form that the net takes.
    y : ndarray
    seed : int

    Returns
    -------
    skorch.NeuralNet

    Raises
    ------
    ValueError
        If the outputs of the network do not match the classes in y.
    """
    if is_fitted_net(net) and _knows_targets(net):
        copied = copied_net(net)
    else:
        copied = _initialized(net, X, y, seed)
        if is_fitted_net(net):
            copied.module_.load_state_dict(net.module_.state_dict())
    if is_classifier(copied) and not isinstance(copied, skorch.NeuralNetBinaryClassifier):
        _check_classes(copied, X, y)
    return copied


def _initialized(net: skorch.NeuralNet, X: Any, y: Array, seed: int) -> skorch.NeuralNet:
    net = clone(net)
    n_epochs = net.max_epochs
    net.set_params(max_epochs=0)
    if isinstance(net, (NetClassifier, NetRegressor)) and net.random_state is None:
        net.set_params(random_state=seed)
    with seeded(seed, net.device), interrupts_raised(net):
        net.fit(X, targets_for_fit(net, y))
    return net.set_params(max_epochs=n_epochs)


def _knows_targets(net: skorch.NeuralNet) -> bool:
    """Return whether a net was fitted, and not only initialized, so that it knows its targets."""
    if isinstance(net, (NetClassifier, NetRegressor)):
        return hasattr(net, "n_outputs_")
    return not is_classifier(net) or hasattr(net, "classes_")


def data_for_fit(net: skorch.NeuralNet, X: AnySamples, y: Array) -> tuple[AnySamples, Array]:
    """Return X and y as a net's `fit` takes them."""
    targets = targets_for_fit(net, y)
    if isinstance(X, Dataset) and not isinstance(net, ConventionalNet):
        return LabeledDataset(X, targets), targets  # skorch takes targets from datasets, not from y
    return X, targets


def targets_for_fit(net: skorch.NeuralNet, y: Array) -> Array:
    """Return y in the form that a net's `fit` takes; skorch's own nets are strict about types."""
    if isinstance(net, (NetClassifier, NetRegressor)):
        return y
    if isinstance(net, skorch.NeuralNetBinaryClassifier):
        return np.asarray(y, dtype=np.float32)
    if is_classifier(net):
        return _class_indices(y)
    return np.asarray(y, dtype=np.float32).reshape(len(y), -1)


def _class_indices(y: Array) -> Array:
    y = np.asarray(y)
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise ValueError(
            "y must contain labels 0, 1, ..., n_classes - 1 for a skorch.NeuralNetClassifier, got "
            f"{np.unique(y)}. Use sklearn_ext.NetClassifier for other labels."
        )
    return y.astype(np.int64)


@torch.no_grad()
def _check_classes(net: skorch.NeuralNet, X: Any, y: Array) -> None:
    labels = class_labels(net)
    class_codes(net, y)  # raises an error for unknown labels
    # Normalization without running statistics needs two samples.
    first = select_samples(X, np.arange(min(2, n_samples_of(X))))
    n_outputs = raw_outputs(net, first).shape[1]
    if n_outputs != len(labels):
        raise ValueError(
            f"The network has {n_outputs} outputs, but y has {len(labels)} classes. If y lacks "
            "some classes, pass an estimator that was fitted on all of them."
        )
    if len(missing := np.setdiff1d(labels, y)) > 0:
        warn_caller(f"y has no samples of the classes {missing}, which the network was fitted on.")


def net_with_weights(
    net: skorch.NeuralNet,
    tensors: Mapping[str, torch.Tensor],
    *,
    classes: Array | None,
    input_shape: tuple[int, ...] | None,
    target_shape: tuple[int, ...],
) -> skorch.NeuralNet:
    """Return a copy of a net with stored weights.

    Parameters
    ----------
    net : skorch.NeuralNet
        A fitted net, or an unfitted net whose architecture follows from the shapes below.
    tensors : mapping of str to tensor
    classes : ndarray or None
        Labels of a classifier.
    input_shape : tuple of int or None
        Shape of the input of one sample.
    target_shape : tuple of int
        Shape of the target of one sample.

    Returns
    -------
    skorch.NeuralNet

    Raises
    ------
    ValueError
        If the net is unfitted and the shape of its inputs is unknown, or if weights or classes do
        not fit.
    """
    if not is_fitted_net(net) and input_shape is None:
        raise ValueError(
            "estimator must be a fitted net, because the soup was fitted on inputs without a fixed "
            "shape."
        )
    n = 2 if classes is None else len(classes)
    shape = () if input_shape is None else input_shape
    X = np.zeros((n, *shape), dtype=np.float32)
    y = np.zeros((n, *target_shape), dtype=np.float32) if classes is None else classes
    try:
        copied = copied_net(net) if is_fitted_net(net) else _initialized(net, X, y, seed=0)
    except RuntimeError as error:
        raise ValueError(
            f"The network of estimator must take samples of shape {shape}: {error}"
        ) from error
    if classes is not None and not np.array_equal(class_labels(copied), classes):
        raise ValueError(
            f"The estimator was fitted on the classes {class_labels(copied)}, but the soup on "
            f"{classes}."
        )
    load_weights_(copied, tensors, "The file")
    copied.module_.eval()
    return copied


@torch.no_grad()
def load_weights_(
    net: skorch.NeuralNet,
    tensors: Mapping[str, torch.Tensor],
    label: str,
    key_map: KeyMap | None = None,
) -> None:
    """Copy weights into an initialized net.

    Parameters
    ----------
    net : skorch.NeuralNet
    tensors : mapping of str to tensor
    label : str
        Name of the weights in error messages.
    key_map : mapping, callable or None, default=None
        New names of tensors.

    Raises
    ------
    ValueError
        If the weights do not fit the net or are not finite.
    """
    layout = layout_of(net.module_)
    tensors = tensors_of_ingredient(layout, tensors, label, key_map)
    for name, own in layout.own_tensors().items():
        own.copy_(tensors[name])
    bad = first_not_finite(layout)
    if bad is not None:
        raise ValueError(f"{label} must have finite weights, but the tensor {bad!r} is not finite.")
