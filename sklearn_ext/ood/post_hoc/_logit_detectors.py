"""Detectors that score the logits of a trained classifier."""

from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import Interval
from torch import Tensor

from ...neural import Head
from ...utils._typing import RandomState
from ...utils._validation import own_constructor
from .._scores import energy_score, gen_score, max_logit_score, msp_score
from ._base import BasePostHocDetector


@own_constructor
class MSPOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the maximum softmax probability (MSP).

    This is the baseline: a classifier should be less certain about inputs unlike its training
    samples. Often it is not, because the softmax discards the size of the logits.

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
    EnergyOODDetector : Keeps the size of the logits.
    OrthLossOODDetector : Trains with outliers.

    References
    ----------
    .. [1] D. Hendrycks, K. Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution
       Examples in Neural Networks", ICLR 2017, arXiv:1610.02136.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import MSPOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = MSPOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    def _score(self, features: Tensor, head: Head) -> Tensor:
        return msp_score(head.logits(features))


@own_constructor
class MaxLogitOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the largest logit.

    Unlike the maximum softmax probability, the largest logit keeps the size of the logits. It is
    also not lowered when many similar classes share the probability.

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
    EnergyOODDetector : A soft maximum of the logits.

    References
    ----------
    .. [1] D. Hendrycks et al., "Scaling Out-of-Distribution Detection for Real-World Settings",
       ICML 2022, arXiv:1911.11132.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import MaxLogitOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = MaxLogitOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    def _score(self, features: Tensor, head: Head) -> Tensor:
        return max_logit_score(head.logits(features))


class EnergyOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the energy of the logits.

    The score is the negative energy :math:`T \log \sum_c e^{l_c / T}`, a soft maximum of the logits
    :math:`l_c`.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    temperature : float, default=1.0
        The temperature T. With small values the score approaches the largest logit.

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
    MaxLogitOODDetector : The limit of temperature 0.
    ReActOODDetector : The same score of clipped features.

    References
    ----------
    .. [1] W. Liu, X. Wang, J. Owens, Y. Li, "Energy-based Out-of-distribution Detection", NeurIPS
       2020, arXiv:2010.03759.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import EnergyOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = EnergyOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        temperature: float = 1.0,
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
        self.temperature = temperature

    def _score(self, features: Tensor, head: Head) -> Tensor:
        return energy_score(head.logits(features), self.temperature)


class GENOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the generalized entropy of the probabilities (GEN).

    The score is the negative sum of :math:`p_c^\gamma (1 - p_c)^\gamma` over the largest
    probabilities. It is a function of the probabilities alone, as MSP is, but depends on how they
    are spread over the other classes.

    Parameters
    ----------
    estimator : skorch.NeuralNetClassifier, FrozenEstimator or None, default=None
        The classifier; its head is its last :class:`torch.nn.Linear`. A fitted classifier is
        copied, an unfitted one is cloned and fitted, and None means a :class:`NetClassifier`.
        Cloning the detector, as searches and cross-validation do, discards the weights of a bare
        net. To keep them, wrap the fitted net in a :class:`~sklearn.frozen.FrozenEstimator`.

    exponent : float in (0, 1), default=0.1
        The exponent :math:`\gamma`. Small values magnify deviations from a certain prediction.

    n_top : int, default=100
        Number of the largest probabilities that count; all of them if there are fewer classes.

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
    MSPOODDetector : The largest probability alone.

    References
    ----------
    .. [1] X. Liu, Y. Lochman, C. Zach, "GEN: Pushing the Limits of Softmax-Based
       Out-of-Distribution Detection", CVPR 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_ext import GENOODDetector
    >>> X, y = load_digits(return_X_y=True)
    >>> detector = GENOODDetector(random_state=0).fit(X[:1000] / 16, y[:1000])
    >>> detector.predict(X[1000:1003] / 16)
    array([1, 1, 1])
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "exponent": [Interval(Real, 0, 1, closed="neither")],
        "n_top": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        exponent: float = 0.1,
        n_top: int = 100,
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
        self.exponent = exponent
        self.n_top = n_top

    def _score(self, features: Tensor, head: Head) -> Tensor:
        return gen_score(head.logits(features), self.exponent, self.n_top)
