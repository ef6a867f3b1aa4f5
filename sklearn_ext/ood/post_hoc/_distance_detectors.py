"""Detectors that measure how far features are from those of training rows."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.utils._param_validation import Interval

from .._docs import with_common_parts
from ._base import BasePostHocDetector
from ._scores import (
    class_means,
    negative_kth_distance,
    negative_mahalanobis,
    shrunk_precision_root,
    unit_rows,
)


@with_common_parts
class KNNOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the distance to the k-th nearest training row.

    Distances are between unit features: the input of the head, divided by its length. Labels serve
    to train the classifier only.

    Parameters
    ----------
    {estimator}

    n_neighbors : int, default=5
        k, at most the number of training rows.

    {rows}

    {rejection}

    {learned_held_out}

    {seed}

    Attributes
    ----------
    {classifier}

    unit_features_ : ndarray of shape (n_rows, n_penultimate)
        Unit features of the training rows.

    {facts}

    See Also
    --------
    MahalanobisOODDetector : A Gaussian a class instead of rows.

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
    >>> bool((detector.predict(X[1000:] / 16) == 1).mean() > 0.85)
    True
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
        estimator=None,
        *,
        n_neighbors=5,
        head=None,
        outlier_label=-1,
        id_rejection_rate=0.05,
        validation_fraction=0.1,
        random_state=None,
    ):
        super().__init__(
            estimator,
            head=head,
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.n_neighbors = n_neighbors

    def _learn(self, features, codes, weight, bias):
        self.unit_features_ = unit_rows(features).numpy()

    def _score(self, features, weight, bias):
        bank = torch.from_numpy(self.unit_features_)
        return negative_kth_distance(features, bank, min(self.n_neighbors, len(bank)))


@with_common_parts
class MahalanobisOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the Mahalanobis distance to the nearest class.

    Features of a class, the input of the head, are taken for Gaussian with a mean of their own and
    a covariance that all classes share.

    Parameters
    ----------
    {estimator}

    shrinkage : float in [0, 1], default=1e-3
        Share of the covariance that is replaced by the multiple of the identity with the same
        trace. Features that never vary in training count for nothing without it.

    {rows}

    {rejection}

    {learned_held_out}

    {seed}

    Attributes
    ----------
    {classifier}

    means_ : ndarray of shape (n_classes, n_penultimate)
        Mean feature of each class.

    precision_root_ : ndarray of shape (n_penultimate, n_penultimate)
        R with :math:`R R^T` the inverse of the shared covariance.

    {facts}

    See Also
    --------
    KNNOODDetector : Without the Gaussian assumption.

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
    >>> bool((detector.predict(X[1000:] / 16) == 1).mean() > 0.85)
    True
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
        estimator=None,
        *,
        shrinkage=1e-3,
        head=None,
        outlier_label=-1,
        id_rejection_rate=0.05,
        validation_fraction=0.1,
        random_state=None,
    ):
        super().__init__(
            estimator,
            head=head,
            outlier_label=outlier_label,
            id_rejection_rate=id_rejection_rate,
            validation_fraction=validation_fraction,
            random_state=random_state,
        )
        self.shrinkage = shrinkage

    def _learn(self, features, codes, weight, bias):
        missing = np.delete(self.classes_, codes.unique().numpy())
        if len(missing):
            raise ValueError(
                f"MahalanobisOODDetector needs rows of all classes of its estimator, y has none of "
                f"{missing.tolist()}."
            )
        means = class_means(features, codes, len(weight))
        self.means_ = means.numpy()
        self.precision_root_ = shrunk_precision_root(
            features - means[codes], self.shrinkage
        ).numpy()

    def _score(self, features, weight, bias):
        return negative_mahalanobis(
            features, torch.from_numpy(self.means_), torch.from_numpy(self.precision_root_)
        )
