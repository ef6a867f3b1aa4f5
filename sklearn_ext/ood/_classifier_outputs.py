"""Outputs of a fitted classifier: features and logits of a net, or class probabilities alone."""

import copy
from typing import Any, ClassVar, Protocol

import numpy as np
import skorch
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from ..neural import (
    AnySamples,
    Head,
    checked_head,
    class_labels,
    draw_seed,
    fitted_copy,
    is_fitted_net,
    n_samples_of,
    penultimate,
    select_samples,
    stacked,
)
from ..utils._typing import Array, FloatArray, IntArray
from ..utils._validation import named_as_in_fit, unfrozen

_BATCH = 1024
# Matrix products of fewer rows use other kernels, which round differently.
_SMALLEST_BATCH = 16
_SMALLEST_PROBABILITY = 1e-8


class ClassifierOutputs(Protocol):
    """Outputs of a fitted classifier; `has_features` tells which kind `compute` returns.

    Attributes
    ----------
    has_features : bool
        Whether `compute` returns penultimate features; otherwise it returns log-probabilities.
    classifier : classifier
    classes : ndarray of shape (n_classes,)
    """

    has_features: ClassVar[bool]
    classifier: Any
    classes: Array

    def compute(self, X: AnySamples) -> FloatArray:
        """Return features or log-probabilities of shape (n, d)."""

    def logits(self, values: FloatArray) -> FloatArray:
        """Return the logits that belong to the result of `compute`, of shape (n, n_classes)."""

    def codes(self, X: AnySamples) -> IntArray:
        """Return the index of the most probable class of each sample."""


class NetOutputs:
    """Penultimate features of a fitted skorch net, and the logits that its head computes from them.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier
    X : samples in any form
        Samples on which the head is checked.
    head : str or None, default=None
        Name of the linear layer; None means the last one whose outputs are those of the net.
    """

    has_features: ClassVar[bool] = True

    def __init__(
        self, net: skorch.NeuralNetClassifier, X: AnySamples, head: str | None = None
    ) -> None:
        self.classifier = net
        self.classes = class_labels(net)
        self.head = head_of_classes(net, X, self.classes, head)

    def compute(self, X: AnySamples) -> FloatArray:
        """Return features of shape (n, d)."""
        return features_of(self.classifier, X, self.head.name).cpu().numpy()

    def logits(self, values: FloatArray) -> FloatArray:
        """Return the logits of features, of shape (n, n_classes)."""
        return self.head.logits(torch.from_numpy(values)).numpy()

    def codes(self, X: AnySamples) -> IntArray:
        """Return the index of the most probable class of each sample."""
        return self.logits(self.compute(X)).argmax(axis=1)


class ProbabilityOutputs:
    """Log-probabilities of any fitted scikit-learn classifier.

    Parameters
    ----------
    classifier : classifier
    """

    has_features: ClassVar[bool] = False

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier
        self.classes: Array = classifier.classes_

    def compute(self, X: AnySamples) -> FloatArray:
        """Return log-probabilities of shape (n, n_classes)."""
        X = named_as_in_fit(self.classifier, stacked(X).astype(np.float64))
        probabilities = self.classifier.predict_proba(X)
        return np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))

    def logits(self, values: FloatArray) -> FloatArray:
        """Return log-probabilities unchanged, because they can serve as logits."""
        return values

    def codes(self, X: AnySamples) -> IntArray:
        """Return the index of the most probable class of each sample."""
        return self.compute(X).argmax(axis=1)


def fitted_outputs(
    estimator: Any, X: AnySamples, y: Array | None, *, head: str | None, rng: np.random.RandomState
) -> ClassifierOutputs:
    """Return the outputs of a classifier, which is fitted first if it is unfitted.

    Parameters
    ----------
    estimator : classifier or None
        None means a net that suits the shape of the data. A fitted classifier is copied, an
        unfitted one is cloned.
    X : float32 ndarray of shape (n, ...) or Dataset
    y : ndarray of shape (n,) or None
        May be None only if the classifier is fitted.
    head : str or None
        Name of the linear layer of a net; None means the last one.
    rng : RandomState

    Returns
    -------
    NetOutputs or ProbabilityOutputs

    Raises
    ------
    TypeError
        If the classifier has no probabilities.
    ValueError
        If a frozen classifier is unfitted.
    """
    bare = unfrozen(estimator)
    if bare is None or isinstance(bare, skorch.NeuralNetClassifier):
        labels: Any = y  # None only for a fitted net, which needs no labels
        return NetOutputs(fitted_copy(estimator, X, labels, random_state=rng), X, head)
    if not hasattr(bare, "predict_proba"):
        raise TypeError(
            "estimator must be None, a skorch.NeuralNetClassifier or a scikit-learn classifier "
            f"with predict_proba, got {estimator!r}."
        )
    if is_fitted(estimator):
        return ProbabilityOutputs(copy.deepcopy(bare))
    if bare is not estimator:
        raise ValueError("estimator is a FrozenEstimator around a classifier that is not fitted.")
    return ProbabilityOutputs(_seeded_clone(bare, rng).fit(stacked(X).astype(np.float64), y))


def is_fitted(estimator: Any) -> bool:
    """Return whether a classifier, bare or in a FrozenEstimator, is fitted; None is not."""
    if estimator is None:
        return False
    if isinstance(unfrozen(estimator), skorch.NeuralNet):
        return is_fitted_net(estimator)
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def _seeded_clone(classifier: Any, rng: np.random.RandomState) -> Any:
    """Clone a classifier and seed each `random_state` that is None."""
    cloned = clone(classifier)
    unseeded = [
        name
        for name, value in sorted(cloned.get_params().items())
        if value is None and name.split("__")[-1] == "random_state"
    ]
    return cloned.set_params(**{name: draw_seed(rng) for name in unseeded})


def pad_last_batch(X: AnySamples) -> AnySamples:
    """Repeat the last sample until no batch is so small that it would be rounded differently.

    The result for a sample then does not depend on the other samples.

    Parameters
    ----------
    X : samples in any form

    Returns
    -------
    samples in the same form
        The n samples, followed by 0 to 15 repetitions.
    """
    n = n_samples_of(X)
    last = n % _BATCH
    if not 0 < last < _SMALLEST_BATCH:
        return X
    return select_samples(X, np.minimum(np.arange(n + _SMALLEST_BATCH - last), n - 1))


def features_of(net: skorch.NeuralNet, X: AnySamples, head: str | None = None) -> Tensor:
    """Compute the input of a net's head, and return it in double precision.

    Scores are cheap to compute from the features, even in double precision.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : samples in any form
    head : str or None, default=None
        Name of the layer; None means the last linear layer.

    Returns
    -------
    tensor of shape (n, d)
        On the device of the net, or on the CPU if the device has no double precision.

    Raises
    ------
    ValueError
        If the head gets more than one vector per sample.
    """
    features = penultimate(net, X, head=head, batch_size=_BATCH)
    if features.ndim != 2:
        raise ValueError(
            "The input of the head must be one vector for each sample, got features of shape "
            f"{tuple(features.shape)}. Name another layer as `head`."
        )
    return (features.cpu() if features.device.type == "mps" else features).double()


def tensor_like(features: Tensor, values: FloatArray) -> Tensor:
    """Return an array as a tensor on the device of the features."""
    return torch.from_numpy(values).to(features.device)


def head_of_classes(
    net: skorch.NeuralNet, X: AnySamples, classes: Array, name: str | None = None
) -> Head:
    """Return the head of a net as `checked_head` finds it, if it has one output per class.

    Raises
    ------
    ValueError
        If it has another number of outputs, or its outputs are not the logits of the net.
    """
    head = checked_head(net, X, name)
    if len(head.weight) != len(classes):
        raise ValueError(
            f"The head must have one output for each of the {len(classes)} classes, but "
            f"{head.name!r} has {len(head.weight)}. Name another layer as `head`."
        )
    return head
