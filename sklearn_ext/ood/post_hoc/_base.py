"""Common base of the detectors that score the outputs of a trained classifier."""

from abc import abstractmethod
from functools import partial
from typing import Any, ClassVar, Self

import skorch
import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from torch import Tensor

from ...neural import (
    AnySamples,
    Head,
    class_codes,
    class_labels,
    draw_seed,
    fitted_copy,
    is_fitted_net,
)
from ...utils._atomic import atomic_fit
from ...utils._typing import FloatArray, RandomState
from ...utils.compat import FitTasks, with_callbacks
from .._classifier_outputs import features_of, head_of_classes
from .._detector import BaseOODDetector, TrainingSamples


class BasePostHocDetector(BaseOODDetector):
    """Fit a classifier if it is unfitted, and pass its features and its head to the subclass.

    A subclass defines ``_score``. With ``_learns`` set it also defines ``_learn``, which gets the
    training samples first. With ``_uses_classes`` set, `fit` needs y even if the classifier is
    fitted. All tensors are in double precision, on the device of the net.
    """

    _takes_any_form: ClassVar[bool] = True
    _learns = False
    _uses_classes = False

    _parameter_constraints: dict[str, Any] = {
        **BaseOODDetector._parameter_constraints,
        "head": [str, None],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        head: str | None = None,
        outlier_label: Any = -1,
        id_rejection_rate: float = 0.05,
        validation_fraction: float = 0.1,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.estimator = estimator
        self.head = head

    @atomic_fit
    @with_callbacks
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: AnySamples, y: ArrayLike | None = None) -> Self:
        """Fit the classifier if it is unfitted, learn from its features, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width), tensor, dict of arrays, or Dataset
            Training samples, in any form that a :class:`~sklearn_ext.NetClassifier` takes.
        y : array-like of shape (n_samples,), default=None
            Class labels. Samples labeled `outlier_label` are left out. May be None if X is a
            dataset, whose labels are used, or if `estimator` is fitted and the detector needs no
            classes.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If the input is not finite or has a wrong shape, labels are missing, name fewer than two
            classes or are unknown to the fitted classifier, a parameter is out of range, or the
            outputs of the classifier are not those of a linear layer with one output per class.
        """
        samples, rng = self._start_fit(X, y)
        labels: Any = samples.y  # None only for a fitted net, which needs no labels
        tasks = FitTasks(self, None, X, y)
        net = fitted_copy(
            self.estimator,
            samples.X,
            labels,
            random_state=draw_seed(rng),
            training=partial(tasks.fit_of, "classifier"),
        )
        self.classifier_, self.classes_ = net, class_labels(net)
        self.head_ = head_of_classes(net, samples.larger_part, self.classes_, self.head)
        codes = known_codes(net, samples)
        if self._learns:
            features = features_of(net, samples.X, self.head_.name)
            tasks("features")
            self._learn(features, None if codes is None else codes.to(features.device), self.head_)
        self._set_offset(samples)
        tasks.end()
        return self

    @abstractmethod
    def _score(self, features: Tensor, head: Head) -> Tensor:
        """Return the scores of features, of shape (n,)."""

    def _learn(self, features: Tensor, codes: Tensor | None, head: Head) -> None:
        """Set the fitted attributes that depend on the features of the training samples.

        Parameters
        ----------
        features : tensor of shape (n, d)
        codes : int64 tensor of shape (n,) or None
            Class indices; never None if ``_uses_classes`` is set.
        head : Head
        """

    def _needs_labels(self) -> bool:
        return self._uses_classes or not is_fitted_net(self.estimator)

    def _fewest_classes(self) -> int:
        return 1 if is_fitted_net(self.estimator) else 2

    def _needs_training_samples(self) -> bool:
        return self._learns or not is_fitted_net(self.estimator)

    def _score_samples(self, X: AnySamples) -> FloatArray:
        features = features_of(self.classifier_, X, self.head_.name)
        return self._score(features, self.head_).cpu().numpy()


def known_codes(net: skorch.NeuralNetClassifier, samples: TrainingSamples) -> Tensor | None:
    """Return the class indices of the training samples; None if there are no labels.

    Raises
    ------
    ValueError
        If the net does not know a label of the training samples or of the held-out samples.
    """
    if samples.y is None or samples.y_held_out is None:
        return None
    class_codes(net, samples.y_held_out)
    return torch.from_numpy(class_codes(net, samples.y))
