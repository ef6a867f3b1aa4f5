"""Detectors that measure the distance of features from those of the training samples."""

from numbers import Integral, Real
from typing import Any, cast

import numpy as np
from sklearn.utils._param_validation import Interval
from torch import Tensor

from ...neural import Head
from ...utils._typing import RandomState
from ...utils._warnings import warn_caller
from .._classifier_outputs import tensor_like
from .._scores import (
    class_means,
    energy_score,
    knn_score,
    mahalanobis_score,
    nnguide_score,
    shrunk_precision_root,
    unit_rows,
)
from ._base import BasePostHocDetector


class KNNOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the distance to the k-th nearest training sample.

    Distances are between unit features: the input of the head divided by its length. The labels
    serve only to train the classifier.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    n_neighbors : int, default=5
        The number of neighbors k. If there are fewer training samples, their number is used, and
        a warning says so.

    head : str or None, default=None
        Name of the linear layer that returns the logits. By default, it is the last such layer.

    outlier_label : int or str, default=-1
        Label in y that means "belongs to no class". Samples with this label are left out.

    id_rejection_rate : float in (0, 1), default=0.05
        Fraction of new in-distribution samples that may be predicted as outliers.

    validation_fraction : float in (0, 1), default=0.1
        Fraction of the samples that is held out from fitting and sets the threshold.

    random_state : int, RandomState instance or None, default=None
        Seeds the choice of the held-out samples, and the training of `estimator` if it is unfitted.

    Attributes
    ----------
    classifier_ : skorch.NeuralNetClassifier
        The fitted classifier.

    classes_ : ndarray of shape (n_classes,)
        Class labels, in the order of the outputs of the classifier.

    offset_ : float
        Threshold of `predict` on the scores.

    held_out_scores_ : ndarray of shape (n_held_out,)
        Sorted scores of the held-out samples.

    head_ : sklearn_ext.neural.Head
        The layer that returns the logits.

    unit_features_ : ndarray of shape (n_training_samples, n_penultimate)
        Unit features of the training samples.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    MahalanobisOODDetector : One Gaussian per class instead of neighbors.

    References
    ----------
    .. [1] Y. Sun, Y. Ming, X. Zhu, Y. Li, "Out-of-Distribution Detection with Deep Nearest
       Neighbors", ICML 2022, arXiv:2204.06507.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import KNNOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = KNNOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict(1 - X[1000:1003] / 16)  # inverted digits
    array([-1, -1, -1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _learns = True
    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_neighbors: int = 5,
        head: str | None = None,
        outlier_label: Any = -1,
        id_rejection_rate: float = 0.05,
        validation_fraction: float = 0.1,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(
            estimator,
            head=head,
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.n_neighbors = n_neighbors

    def _learn(self, features: Tensor, codes: Tensor | None, head: Head) -> None:
        _warn_of_few_samples(self.n_neighbors, len(features))
        self.unit_features_ = unit_rows(features).cpu().numpy()

    def _score(self, features: Tensor, head: Head) -> Tensor:
        unit_features = tensor_like(features, self.unit_features_)
        return knn_score(features, unit_features, min(self.n_neighbors, len(unit_features)))


class MahalanobisOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the Mahalanobis distance to the nearest class.

    The features of a class, which are the input of the head, are modeled as a Gaussian. Each class
    has its own mean, and all classes share the covariance.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    shrinkage : float in [0, 1], default=1e-3
        Fraction of the covariance that is replaced by the multiple of the identity with the same
        trace. Without shrinkage, directions that never vary in training have no effect.

    head : str or None, default=None
        Name of the linear layer that returns the logits. By default, it is the last such layer.

    outlier_label : int or str, default=-1
        Label in y that means "belongs to no class". Samples with this label are left out.

    id_rejection_rate : float in (0, 1), default=0.05
        Fraction of new in-distribution samples that may be predicted as outliers.

    validation_fraction : float in (0, 1), default=0.1
        Fraction of the samples that is held out from fitting and sets the threshold.

    random_state : int, RandomState instance or None, default=None
        Seeds the choice of the held-out samples, and the training of `estimator` if it is unfitted.

    Attributes
    ----------
    classifier_ : skorch.NeuralNetClassifier
        The fitted classifier.

    classes_ : ndarray of shape (n_classes,)
        Class labels, in the order of the outputs of the classifier.

    offset_ : float
        Threshold of `predict` on the scores.

    held_out_scores_ : ndarray of shape (n_held_out,)
        Sorted scores of the held-out samples.

    head_ : sklearn_ext.neural.Head
        The layer that returns the logits.

    means_ : ndarray of shape (n_classes, n_penultimate)
        Mean feature of each class.

    precision_root_ : ndarray of shape (n_penultimate, n_penultimate)
        R with :math:`R R^T` the inverse of the shared covariance.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    KNNOODDetector : Needs no Gaussian assumption.

    References
    ----------
    .. [1] K. Lee, K. Lee, H. Lee, J. Shin, "A Simple Unified Framework for Detecting
       Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018, arXiv:1807.03888.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import MahalanobisOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = MahalanobisOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(1 - X[1000:1003] / 16)  # inverted digits
    array([-1, -1, -1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _learns = True
    _uses_classes = True
    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "shrinkage": [Interval(Real, 0, 1, closed="both")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        shrinkage: float = 1e-3,
        head: str | None = None,
        outlier_label: Any = -1,
        id_rejection_rate: float = 0.05,
        validation_fraction: float = 0.1,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(
            estimator,
            head=head,
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.shrinkage = shrinkage

    def _learn(self, features: Tensor, codes: Tensor | None, head: Head) -> None:
        codes = cast(Tensor, codes)  # not None, because _uses_classes is set
        missing = np.delete(self.classes_, codes.unique().cpu())
        if len(missing):
            raise ValueError(
                "y must contain samples of all classes of estimator for a MahalanobisOODDetector, "
                f"got none of the classes {missing.tolist()}."
            )
        means = class_means(features, codes, len(self.classes_))
        residuals = features - means[codes]
        self.means_ = means.cpu().numpy()
        self.precision_root_ = shrunk_precision_root(residuals, self.shrinkage).cpu().numpy()

    def _score(self, features: Tensor, head: Head) -> Tensor:
        means, root = (
            tensor_like(features, self.means_),
            tensor_like(features, self.precision_root_),
        )
        return mahalanobis_score(features, means, root)


class NNGuideOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the energy, guided by nearest neighbors (NNGuide).

    The negative energy of the logits is multiplied by the mean cosine with the nearest training
    features, each of which is weighted by its own negative energy. Confident logits thus count only
    near confident training samples.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    n_neighbors : int, default=10
        The number of neighbors. If there are fewer training samples, their number is used, and a
        warning says so.

    head : str or None, default=None
        Name of the linear layer that returns the logits. By default, it is the last such layer.

    outlier_label : int or str, default=-1
        Label in y that means "belongs to no class". Samples with this label are left out.

    id_rejection_rate : float in (0, 1), default=0.05
        Fraction of new in-distribution samples that may be predicted as outliers.

    validation_fraction : float in (0, 1), default=0.1
        Fraction of the samples that is held out from fitting and sets the threshold.

    random_state : int, RandomState instance or None, default=None
        Seeds the choice of the held-out samples, and the training of `estimator` if it is unfitted.

    Attributes
    ----------
    classifier_ : skorch.NeuralNetClassifier
        The fitted classifier.

    classes_ : ndarray of shape (n_classes,)
        Class labels, in the order of the outputs of the classifier.

    offset_ : float
        Threshold of `predict` on the scores.

    held_out_scores_ : ndarray of shape (n_held_out,)
        Sorted scores of the held-out samples.

    head_ : sklearn_ext.neural.Head
        The layer that returns the logits.

    guides_ : ndarray of shape (n_training_samples, n_penultimate)
        Unit features of the training samples times their negative energies.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    KNNOODDetector : The distance to neighbors alone.
    EnergyOODDetector : The energy alone.

    References
    ----------
    .. [1] J. Park, Y. G. Jung, A. B. J. Teoh, "Nearest Neighbor Guidance for Out-of-Distribution
       Detection", ICCV 2023, arXiv:2309.14888.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import NNGuideOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = NNGuideOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _learns = True
    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_neighbors: int = 10,
        head: str | None = None,
        outlier_label: Any = -1,
        id_rejection_rate: float = 0.05,
        validation_fraction: float = 0.1,
        random_state: RandomState = None,
    ) -> None:
        super().__init__(
            estimator,
            head=head,
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.n_neighbors = n_neighbors

    def _learn(self, features: Tensor, codes: Tensor | None, head: Head) -> None:
        _warn_of_few_samples(self.n_neighbors, len(features))
        energies = energy_score(head.logits(features))
        self.guides_ = (unit_rows(features) * energies[:, None]).cpu().numpy()

    def _score(self, features: Tensor, head: Head) -> Tensor:
        guides = tensor_like(features, self.guides_)
        n_neighbors = min(self.n_neighbors, len(guides))
        return nnguide_score(features, head.logits(features), guides, n_neighbors)


def _warn_of_few_samples(n_neighbors: int, n_samples: int) -> None:
    if n_neighbors > n_samples:
        warn_caller(
            f"n_neighbors={n_neighbors} is greater than the number of training samples whose "
            f"features are stored, {n_samples}; all of them are neighbors."
        )
