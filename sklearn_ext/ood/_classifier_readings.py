"""What a classifier thinks of rows: features and logits, or probabilities alone."""

import copy

import numpy as np
import skorch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from ..neural import class_labels, draw_seed, fitted_copy, is_fitted_net
from ..utils._nested import named_as_in_fit, unfrozen
from ._network import check_head, features_of, head_parameters

_SMALLEST_PROBABILITY = 1e-8


class NetReading:
    """Penultimate features of a fitted skorch net, and the logits that its head makes of them."""

    has_features = True

    def __init__(self, net, head=None):
        self.classifier, self.head = net, head
        self.classes = class_labels(net)
        check_head(net.module_, self.classes, head)

    def read(self, X):
        """Return features of rows, of shape (n, d)."""
        return features_of(self.classifier, X, self.head).numpy()

    def logits(self, features):
        weight, bias = head_parameters(self.classifier.module_, self.head)
        return features @ weight.numpy().T + bias.numpy()

    def codes(self, X):
        """Return the positions of the most probable classes."""
        return self.logits(self.read(X)).argmax(axis=1)


class ProbabilityReading:
    """Log-probabilities of any fitted classifier of scikit-learn."""

    has_features = False

    def __init__(self, classifier):
        self.classifier = classifier
        self.classes = classifier.classes_

    def read(self, X):
        """Return log-probabilities of rows, of shape (n, n_classes)."""
        X = named_as_in_fit(self.classifier, X.astype(np.float64))
        probabilities = self.classifier.predict_proba(X)
        return np.log(np.maximum(probabilities, _SMALLEST_PROBABILITY))

    def logits(self, log_probabilities):
        return log_probabilities

    def codes(self, X):
        """Return the positions of the most probable classes."""
        return self.read(X).argmax(axis=1)


def fitted_reading(classifier, X, y, *, head, rng):
    """Return the reading of a classifier, which is fitted first unless it is.

    Parameters
    ----------
    classifier : classifier or None
        None is a net for the shape of the data. A fitted classifier is copied, one that is not
        is cloned.
    X : float32 ndarray of shape (n, ...)
    y : ndarray of shape (n,) or None
        None only for a fitted classifier.
    head : str or None
    rng : RandomState

    Returns
    -------
    NetReading or ProbabilityReading

    Raises
    ------
    TypeError
        If the classifier has no probabilities.
    ValueError
        If a frozen classifier is not fitted.
    """
    bare = unfrozen(classifier)
    if bare is None or isinstance(bare, skorch.NeuralNetClassifier):
        return NetReading(fitted_copy(classifier, X, y, random_state=rng), head)
    if not hasattr(bare, "predict_proba"):
        raise TypeError(
            "classifier must be None, a skorch.NeuralNetClassifier or a classifier of "
            f"scikit-learn with predict_proba, got {classifier!r}."
        )
    if is_fitted(classifier):
        return ProbabilityReading(copy.deepcopy(bare))
    if bare is not classifier:
        raise ValueError("classifier is a FrozenEstimator around one that is not fitted.")
    return ProbabilityReading(_seeded_clone(bare, rng).fit(X.astype(np.float64), y))


def is_fitted(classifier):
    """Whether a classifier is fitted, bare or in a FrozenEstimator; None is not."""
    if classifier is None:
        return False
    if isinstance(unfrozen(classifier), skorch.NeuralNet):
        return is_fitted_net(classifier)
    try:
        check_is_fitted(classifier)
    except NotFittedError:
        return False
    return True


def _seeded_clone(classifier, rng):
    """Clone a classifier; what its user has left unseeded is seeded by `rng`."""
    cloned = clone(classifier)
    unseeded = [
        name
        for name, value in sorted(cloned.get_params().items())
        if value is None and name.split("__")[-1] == "random_state"
    ]
    return cloned.set_params(**{name: draw_seed(rng) for name in unseeded})
