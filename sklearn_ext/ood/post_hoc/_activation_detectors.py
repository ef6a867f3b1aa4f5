"""Detectors that use the features of a trained classifier together with its logits."""

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, StrOptions
from torch import Tensor

from ...neural import Head
from ...utils._typing import RandomState
from ...utils._validation import own_constructor
from .._classifier_outputs import tensor_like
from .._scores import (
    ash_score,
    fdbd_score,
    logit_origin,
    principal_dimension,
    react_score,
    residual_basis,
    scale_score,
    vim_score,
)
from ._base import BasePostHocDetector

# Features whose residuals are shorter than this fraction of their lengths lie in the principal
# space. Without a floor, the scale would amplify rounding errors.
_SMALLEST_RESIDUAL = 1e-3


class ReActOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the energy after clipping features (ReAct).

    Unknown inputs often activate individual features far more than training samples do. The
    features, which are the input of the head, are clipped from above. The score is the negative
    energy of the resulting logits.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    clip_quantile : float in (0, 1], default=0.9
        Features are clipped at this quantile of all features of all training samples.

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

    clip_value_ : float
        Features are clipped at this value.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    EnergyOODDetector : The same score without clipping.

    References
    ----------
    .. [1] Y. Sun, C. Guo, Y. Li, "ReAct: Out-of-distribution Detection With Rectified Activations",
       NeurIPS 2021, arXiv:2111.12797.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import ReActOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = ReActOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _learns = True
    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "clip_quantile": [Interval(Real, 0, 1, closed="right")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        clip_quantile: float = 0.9,
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
        self.clip_quantile = clip_quantile

    def _learn(self, features: Tensor, codes: Tensor | None, head: Head) -> None:
        self.clip_value_ = float(np.quantile(features.cpu().numpy(), self.clip_quantile))

    def _score(self, features: Tensor, head: Head) -> Tensor:
        return react_score(
            features, *head.tensors(features.device), self.clip_value_, norm=head.norm
        )


class ViMOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by a virtual logit for "none of the classes" (ViM).

    Training features, which are the input of the head, span a principal space. The virtual logit is
    the length of a feature's part outside this space, scaled to the size of the largest logits.
    The score is the soft maximum of the true logits minus the virtual logit.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    n_components : int or "auto", default="auto"
        Dimension of the principal space. "auto" is half the number of features of the head, but 512
        with at least 768 features and 1,000 with at least 2,048.

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

    origin_ : ndarray of shape (n_penultimate,)
        Origin of the feature space: the shortest feature whose logits are nearest to zero.

    residual_basis_ : ndarray of shape (n_penultimate, n_penultimate - n_components)
        Orthonormal basis of the complement of the principal space.

    scale_ : float
        Mean largest logit of the training samples divided by their mean residual, or by a
        thousandth of the mean length of centered features if that is larger.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    EnergyOODDetector : The same score without the virtual logit.

    References
    ----------
    .. [1] H. Wang, Z. Li, L. Feng, W. Zhang, "ViM: Out-Of-Distribution with Virtual-logit
       Matching", CVPR 2022, arXiv:2203.10807.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import ViMOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = ViMOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
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
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_components: int | str = "auto",
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
        self.n_components = n_components

    def _learn(self, features: Tensor, codes: Tensor | None, head: Head) -> None:
        n_features = features.shape[1]
        if isinstance(self.n_components, str):
            n_components = principal_dimension(n_features)
        else:
            n_components = self.n_components
            if n_components >= n_features:
                raise ValueError(
                    f"n_components must be below the number of features of the head, {n_features}, "
                    f"got {n_components}."
                )
        origin = logit_origin(*head.tensors(features.device))
        basis = residual_basis(features - origin, n_components)
        self.origin_, self.residual_basis_ = origin.cpu().numpy(), basis.cpu().numpy()
        largest = head.logits(features).amax(dim=1)
        floor = _SMALLEST_RESIDUAL * torch.linalg.vector_norm(features - origin, dim=1).mean()
        residual = torch.maximum(self._residuals(features).mean(), floor)
        self.scale_ = float(largest.mean() / residual) if residual > 0 else 0.0

    def _score(self, features: Tensor, head: Head) -> Tensor:
        return vim_score(head.logits(features), self._residuals(features), self.scale_)

    def _residuals(self, features: Tensor) -> Tensor:
        centered = features - tensor_like(features, self.origin_)
        return torch.linalg.vector_norm(
            centered @ tensor_like(features, self.residual_basis_), dim=1
        )


class ASHOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the energy of pruned and rescaled features (ASH-S).

    All but the largest entries of a feature, which is the input of the head, are set to zero. The
    others are multiplied by :math:`e^r`, where :math:`r` is the sum of the entries before pruning
    divided by the sum after. The score is the negative energy of the resulting logits. The method
    was designed for features after a ReLU.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    quantile : float in [0, 1), default=0.65
        Fraction of the entries of a feature that are pruned.

    head : str or None, default=None
        Name of the linear layer that returns the logits. By default, it is the last such layer.

    outlier_label : int or str, default=-1
        Label in y that means "belongs to no class". Samples with this label are left out.

    id_rejection_rate : float in (0, 1), default=0.05
        Fraction of new in-distribution samples that may be predicted as outliers.

    validation_fraction : float in (0, 1), default=0.1
        Fraction of the samples that is held out from fitting and sets the threshold. With a fitted
        `estimator` there is nothing else to fit, and all samples set the threshold. Pass samples
        that the net was not trained on, or the detector will reject too many new samples.

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

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    SCALEOODDetector : Rescales without pruning.
    ReActOODDetector : Clips large entries instead.

    References
    ----------
    .. [1] A. Djurisic, N. Bozanic, A. Ashok, R. Liu, "Extremely Simple Activation Shaping for
       Out-of-Distribution Detection", ICLR 2023, arXiv:2209.09858.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import ASHOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = ASHOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "quantile": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        quantile: float = 0.65,
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
        self.quantile = quantile

    def _score(self, features: Tensor, head: Head) -> Tensor:
        return ash_score(features, *head.tensors(features.device), self.quantile, norm=head.norm)


class SCALEOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the energy of rescaled features (SCALE).

    A feature, which is the input of the head, is multiplied by :math:`e^r`, where :math:`r` is the
    sum of its entries divided by the sum of its largest entries. The score is the negative energy
    of the resulting logits, and the predicted class does not change. The method was designed for
    features after a ReLU.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    quantile : float in [0, 1), default=0.65
        Fraction of the entries of a feature that do not count as the largest.

    head : str or None, default=None
        Name of the linear layer that returns the logits. By default, it is the last such layer.

    outlier_label : int or str, default=-1
        Label in y that means "belongs to no class". Samples with this label are left out.

    id_rejection_rate : float in (0, 1), default=0.05
        Fraction of new in-distribution samples that may be predicted as outliers.

    validation_fraction : float in (0, 1), default=0.1
        Fraction of the samples that is held out from fitting and sets the threshold. With a fitted
        `estimator` there is nothing else to fit, and all samples set the threshold. Pass samples
        that the net was not trained on, or the detector will reject too many new samples.

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

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    ASHOODDetector : Also sets the smaller entries to zero.

    References
    ----------
    .. [1] K. Xu, R. Chen, G. Franchi, A. Yao, "Scaling for Training Time and Post-hoc
       Out-of-distribution Detection Enhancement", ICLR 2024, arXiv:2310.00227.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import SCALEOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = SCALEOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "quantile": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        quantile: float = 0.65,
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
        self.quantile = quantile

    def _score(self, features: Tensor, head: Head) -> Tensor:
        return scale_score(features, *head.tensors(features.device), self.quantile, norm=head.norm)


@own_constructor
class FDBDOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the distance to the decision boundaries (fDBD).

    The score is the mean distance of a feature, which is the input of the head, to the boundaries
    between the predicted class and each other class, divided by the distance to the mean training
    feature. It has no parameters of its own.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

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

    mean_ : ndarray of shape (n_penultimate,)
        Mean feature of the training samples.

    input_shape_ : tuple of int
        Shape of one sample.

    n_features_in_ : int
        Number of features seen during fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of features seen during fit. Defined only when X has feature names that are all
        strings.

    See Also
    --------
    MaxLogitOODDetector : The largest logit instead of its margins.

    References
    ----------
    .. [1] L. Liu, Y. Qin, "Fast Decision Boundary based Out-of-Distribution Detector", ICML 2024,
       arXiv:2312.11536.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import FDBDOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = FDBDOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _learns = True

    def _learn(self, features: Tensor, codes: Tensor | None, head: Head) -> None:
        self.mean_ = features.mean(dim=0).cpu().numpy()

    def _score(self, features: Tensor, head: Head) -> Tensor:
        return fdbd_score(
            features, *head.tensors(features.device), tensor_like(features, self.mean_)
        )
