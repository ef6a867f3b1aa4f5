"""Common base of the detectors that score the outputs of a trained classifier."""

from abc import abstractmethod
from typing import Any, Self

import torch
from numpy.typing import ArrayLike
from sklearn.base import _fit_context
from torch import Tensor

from ...neural import class_codes, class_labels, draw_seed, fitted_copy, is_fitted_net
from ...utils._atomic import atomic_fit
from ...utils._typing import FloatArray, RandomState
from .._classifier_outputs import check_head, features_of, head_parameters
from .._detector import BaseOODDetector


class BasePostHocDetector(BaseOODDetector):
    """Fit a classifier if it is unfitted, and pass its features and its head to the subclass.

    A subclass defines ``_score``. With ``_learns`` set it also defines ``_learn``, which gets the
    training samples first. With ``_uses_classes`` set, `fit` needs y even if the classifier is
    fitted. All tensors are in double precision.
    """

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
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Fit the classifier if it is unfitted, learn from its features, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features), (n_samples, height, width) or \
                (n_samples, channels, height, width)
            Training samples.
        y : array-like of shape (n_samples,), default=None
            Class labels. Samples labeled `outlier_label` are left out. May be None only if
            `estimator` is fitted and the detector needs no classes.

        Returns
        -------
        self : object
            The fitted detector.

        Raises
        ------
        ValueError
            If the input isn't finite or has a wrong shape, labels are missing or name fewer than
            two classes, a parameter is out of range, or the head of the classifier doesn't have
            one output per class.
        """
        samples, rng = self._start_fit(X, y)
        labels: Any = samples.y  # None only for a fitted net, which needs no labels
        net = fitted_copy(self.estimator, samples.X, labels, random_state=draw_seed(rng))
        self.classifier_, self.classes_ = net, class_labels(net)
        check_head(net.module_, self.classes_, self.head)
        if self._learns:
            codes = torch.from_numpy(class_codes(net, labels)) if self._uses_classes else None
            features = features_of(net, samples.X, self.head)
            self._learn(features, codes, *head_parameters(net.module_, self.head))
        return self._set_offset(samples)

    @abstractmethod
    def _score(self, features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return the scores of features, of shape (n,)."""

    def _learn(self, features: Tensor, codes: Tensor | None, weight: Tensor, bias: Tensor) -> None:
        """Set the fitted attributes from the features of the training samples, if there are any.

        Parameters
        ----------
        features : tensor of shape (n, d)
        codes : int64 tensor of shape (n,) or None
            Class indices; None unless ``_uses_classes`` is set.
        weight : tensor of shape (C, d)
        bias : tensor of shape (C,)
        """

    def _needs_labels(self) -> bool:
        return self._uses_classes or not is_fitted_net(self.estimator)

    def _needs_training_samples(self) -> bool:
        return self._learns or not is_fitted_net(self.estimator)

    def _score_samples(self, X: FloatArray) -> FloatArray:
        features = features_of(self.classifier_, X, self.head)
        weight, bias = head_parameters(self.classifier_.module_, self.head)
        return self._score(features, weight, bias).numpy()
