"""The net that a soup's weights are put in: right architecture, right classes, no training yet."""

import copy

import numpy as np
import skorch
import torch
from sklearn.base import clone, is_classifier

from ..neural import NetClassifier, NetRegressor, class_codes, class_labels, is_fitted_net, seeded
from ..utils._nested import unfrozen
from ..utils._warnings import warn_caller
from ._layout import check_tensors, layout_of
from ._rows import n_rows, select_rows

_DEFAULT_EPOCHS = 10  # a soup forgives its ingredients some


def architecture(estimator, sources):
    """Return the net that says what the network is: the user's, or that of the first ingredient.

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
        If `estimator` is no net.
    """
    first = sources[0] if isinstance(sources, (list, tuple)) and len(sources) > 0 else None
    net = unfrozen(first if estimator is None else estimator)
    if isinstance(net, torch.nn.Module) and estimator is None:
        return NetClassifier(net, max_epochs=_DEFAULT_EPOCHS)
    if estimator is None and not isinstance(net, skorch.NeuralNet):
        return NetClassifier(max_epochs=_DEFAULT_EPOCHS)
    if not isinstance(net, skorch.NeuralNet):
        raise TypeError(
            "estimator must be None, a skorch net such as sklearn_ext.neural.NetClassifier or "
            f"NetRegressor, or a FrozenEstimator around one, got {estimator!r}."
        )
    return net


def prepared_copy(net, X, y, *, seed):
    """Return a copy of a net that is ready to take weights, and leave the net as it is.

    A fitted net is copied with its weights and classes. An unfitted one is initialised on the
    data, by a fit of no epochs.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : object
        Rows in any form that the net takes.
    y : ndarray
    seed : int

    Returns
    -------
    skorch.NeuralNet

    Raises
    ------
    ValueError
        If the network's outputs do not match the classes in y.
    """
    if is_fitted_net(net):
        copied = copy.deepcopy(net)
    else:
        copied = _initialized(net, X, y, seed)
    if is_classifier(copied) and not isinstance(copied, skorch.NeuralNetBinaryClassifier):
        _check_classes(copied, X, y)
    return copied


def _initialized(net, X, y, seed):
    net = clone(net)
    n_epochs = net.max_epochs
    net.set_params(max_epochs=0)
    if isinstance(net, (NetClassifier, NetRegressor)) and net.random_state is None:
        net.set_params(random_state=seed)
    with seeded(seed, net.device):
        net.fit(X, targets_for_fit(net, y))
    return net.set_params(max_epochs=n_epochs)


def targets_for_fit(net, y):
    """Return y as the `fit` of a net takes it: skorch's own nets are strict about types."""
    if isinstance(net, (NetClassifier, NetRegressor)):
        return y
    if isinstance(net, skorch.NeuralNetBinaryClassifier):
        return np.asarray(y, dtype=np.float32)
    if is_classifier(net):
        return _codes(y)
    return np.asarray(y, dtype=np.float32).reshape(len(y), -1)


def _codes(y):
    y = np.asarray(y)
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0:
        raise ValueError(
            "skorch.NeuralNetClassifier takes labels 0, 1, ..., n_classes - 1, got "
            f"{np.unique(y)}; sklearn_ext.neural.NetClassifier takes any."
        )
    return y.astype(np.int64)


@torch.no_grad()
def _check_classes(net, X, y):
    labels = class_labels(net)
    class_codes(net, y)  # refuses labels that are unknown
    net.module_.eval()
    row = select_rows(X, np.arange(min(1, n_rows(X))))
    n_outputs = np.shape(net.forward(row).numpy())[1]
    if n_outputs != len(labels):
        raise ValueError(
            f"The network has {n_outputs} outputs, but y has {len(labels)} classes. Where y lacks "
            "some, pass a fitted net as estimator, which knows them."
        )
    if len(missing := np.setdiff1d(labels, y)) > 0:
        warn_caller(f"y holds no row of the classes {missing}, which the network knows.")


def loaded_net(net, tensors, *, classes, input_shape, target_shape):
    """Return a copy of a net with stored weights.

    Parameters
    ----------
    net : skorch.NeuralNet
        Fitted, or of an architecture that the shape of the rows determines.
    tensors : mapping of str to tensor
    classes : ndarray or None
        Labels of a classifier.
    input_shape : tuple of int or None
        Shape of a row.
    target_shape : tuple of int
        Shape of the targets of a row.

    Returns
    -------
    skorch.NeuralNet

    Raises
    ------
    ValueError
        If the shape of the rows is unknown and the net is not fitted, or if weights or classes
        do not fit.
    """
    if not is_fitted_net(net) and input_shape is None:
        raise ValueError(
            "The soup was fitted on rows of no fixed shape: estimator must be a fitted net."
        )
    n = 2 if classes is None else len(classes)
    X = np.zeros((n, *(input_shape or ())), dtype=np.float32)
    y = np.zeros((n, *target_shape), dtype=np.float32) if classes is None else classes
    copied = copy.deepcopy(net) if is_fitted_net(net) else _initialized(net, X, y, seed=0)
    if classes is not None and not np.array_equal(class_labels(copied), classes):
        raise ValueError(
            f"The estimator knows the classes {class_labels(copied)}, the soup those of {classes}."
        )
    load_weights_(copied, tensors, "the file")
    copied.module_.eval()
    return copied


@torch.no_grad()
def load_weights_(net, tensors, label):
    """Put weights in an initialised net.

    Parameters
    ----------
    net : skorch.NeuralNet
    tensors : mapping of str to tensor
    label : str
        What errors call them.
    """
    layout = layout_of(net.module_)
    check_tensors(layout, tensors, label)
    for name, own in layout.own_tensors().items():
        own.copy_(layout.read(tensors, name))
