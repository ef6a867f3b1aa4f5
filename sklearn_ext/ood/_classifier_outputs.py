"""Outputs of a fitted classifier: features and logits of a net, or class probabilities alone."""

import copy
from typing import Any, ClassVar, Protocol

import numpy as np
import skorch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from ..neural import class_labels, draw_seed, fitted_copy, head_of, is_fitted_net, penultimate
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

    def compute(self, X: FloatArray) -> FloatArray:
        """Return features or log-probabilities of shape (n, d)."""

    def logits(self, values: FloatArray) -> FloatArray:
        """Return the logits that belong to the result of `compute`, of shape (n, n_classes)."""

    def codes(self, X: FloatArray) -> IntArray:
        """Return the index of the most probable class of each sample."""


class NetOutputs:
    """Penultimate features of a fitted skorch net, and the logits that its head computes from them.

    Parameters
    ----------
    net : skorch.NeuralNetClassifier
    head : str or None, default=None
        Name of the linear layer; None is the last one.
    """

    has_features: ClassVar[bool] = True

    def __init__(self, net: skorch.NeuralNetClassifier, head: str | None = None) -> None:
        self.classifier, self.head = net, head
        self.classes = class_labels(net)
        check_head(net.module_, self.classes, head)

    def compute(self, X: FloatArray) -> FloatArray:
        """Return features of shape (n, d)."""
        return features_of(self.classifier, X, self.head).numpy()

    def logits(self, values: FloatArray) -> FloatArray:
        """Return the logits of features, of shape (n, n_classes)."""
        weight, bias = head_parameters(self.classifier.module_, self.head)
        return values @ weight.numpy().T + bias.numpy()

    def codes(self, X: FloatArray) -> IntArray:
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

    def compute(self, X: FloatArray) -> FloatArray:
        """Return log-probabilities of shape (n, n_classes)."""
        X = named_as_in_fit(self.classifier, X.astype(np.float64))
        probabilities = self.classifier.predict_proba(X)
        return np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))

    def logits(self, values: FloatArray) -> FloatArray:
        """Return log-probabilities as they are: they are logits, too."""
        return values

    def codes(self, X: FloatArray) -> IntArray:
        """Return the index of the most probable class of each sample."""
        return self.compute(X).argmax(axis=1)


def fitted_outputs(
    estimator: Any, X: FloatArray, y: Array | None, *, head: str | None, rng: np.random.RandomState
) -> ClassifierOutputs:
    """Return the outputs of a classifier. An unfitted classifier is fitted first.

    Parameters
    ----------
    estimator : classifier or None
        None means a net that suits the shape of the data. A fitted classifier is copied, an
        unfitted one is cloned.
    X : float32 ndarray of shape (n, ...)
    y : ndarray of shape (n,) or None
        May be None only if the classifier is fitted.
    head : str or None
        Name of the linear layer of a net; None is the last one.
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
        return NetOutputs(fitted_copy(estimator, X, labels, random_state=rng), head)
    if not hasattr(bare, "predict_proba"):
        raise TypeError(
            "estimator must be None, a skorch.NeuralNetClassifier or a scikit-learn classifier "
            f"with predict_proba, got {estimator!r}."
        )
    if is_fitted(estimator):
        return ProbabilityOutputs(copy.deepcopy(bare))
    if bare is not estimator:
        raise ValueError("estimator is a FrozenEstimator around a classifier that is not fitted.")
    return ProbabilityOutputs(_seeded_clone(bare, rng).fit(X.astype(np.float64), y))


def is_fitted(estimator: Any) -> bool:
    """Whether a classifier is fitted, bare or in a FrozenEstimator; None is not."""
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


def pad_last_batch(X: FloatArray) -> FloatArray:
    """Repeat the last sample until no batch is so small that it would be rounded differently.

    The result for a sample then doesn't depend on the samples beside it.

    Parameters
    ----------
    X : ndarray of shape (n, ...)

    Returns
    -------
    ndarray of shape (m, ...)
        The n samples, followed by 0 to 15 repetitions.
    """
    last = len(X) % _BATCH
    missing = _SMALLEST_BATCH - last if 0 < last < _SMALLEST_BATCH else 0
    return np.concatenate([X, np.repeat(X[-1:], missing, axis=0)]) if missing else X


def head_parameters(module: nn.Module, head: str | None = None) -> tuple[Tensor, Tensor]:
    """Return the weight and the bias of a network's head, in double precision on the CPU.

    Parameters
    ----------
    module : torch.nn.Module
    head : str or None, default=None
        Name of the layer; None is the last linear layer.

    Returns
    -------
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)
        Zero if the layer has none.
    """
    layer = head_of(module, head)
    weight = layer.weight.detach().cpu().double()
    # torch's stubs call the bias a Tensor; it is None in a layer without one.
    given: Tensor | None = layer.bias
    bias = weight.new_zeros(len(weight)) if given is None else given.detach()
    return weight, bias.cpu().double()


def features_of(net: skorch.NeuralNet, X: FloatArray, head: str | None = None) -> Tensor:
    """Compute the input of a network's head, in double precision on the CPU.

    Everything computed from the features is cheap, so it is done in double precision.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : ndarray of shape (n, ...)
    head : str or None, default=None
        Name of the layer; None is the last linear layer.

    Returns
    -------
    tensor of shape (n, d)

    Raises
    ------
    ValueError
        If the head gets more than one vector per sample.
    """
    features = penultimate(net, X, head=head, batch_size=_BATCH).cpu().double()
    if features.ndim != 2:
        raise ValueError(
            "The input of the head must be one vector for each sample, got features of shape "
            f"{tuple(features.shape)}. Name another layer as `head`."
        )
    return features


def check_head(module: nn.Module, classes: Array, head: str | None = None) -> None:
    """Raise ValueError unless the head of a network has one output per class."""
    layer = head_of(module, head)
    if layer.out_features != len(classes):
        raise ValueError(
            f"The head must have one output for each of the {len(classes)} classes, "
            f"got {layer}. Name another layer as `head`."
        )
