"""Detectors that read the logits of a trained classifier."""

from numbers import Real

from sklearn.utils._param_validation import Interval

from .._docs import with_common_parts
from ._base import BasePostHocDetector
from ._scores import max_logit, max_probability, negative_energy


@with_common_parts
class MSPOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the largest softmax probability.

    The baseline: a classifier should be less certain about what it has not seen. Often it is not,
    because the softmax forgets how large the logits are.

    Parameters
    ----------
    {estimator}

    {rows}

    {rejection}

    {held_out}

    {seed}

    Attributes
    ----------
    {classifier}

    {facts}

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
    >>> bool((detector.predict(X[1000:] / 16) == 1).mean() > 0.85)
    True
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    def _score(self, features, weight, bias):
        return max_probability(features @ weight.T + bias)


@with_common_parts
class MaxLogitOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the largest logit.

    Unlike the largest probability it keeps the size of the logits, and with many similar classes it
    is not lowered by their sharing the probability.

    Parameters
    ----------
    {estimator}

    {rows}

    {rejection}

    {held_out}

    {seed}

    Attributes
    ----------
    {classifier}

    {facts}

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
    >>> bool((detector.predict(X[1000:] / 16) == 1).mean() > 0.85)
    True
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    def _score(self, features, weight, bias):
        return max_logit(features @ weight.T + bias)


@with_common_parts
class EnergyOODDetector(BasePostHocDetector):
    r"""Detect unknown classes by the energy of the logits.

    The score is minus the energy, :math:`T \log \sum_c e^{l_c / T}`, a soft maximum of the logits
    :math:`l_c`.

    Parameters
    ----------
    {estimator}

    temperature : float, default=1.0
        T. Small values approach the largest logit.

    {rows}

    {rejection}

    {held_out}

    {seed}

    Attributes
    ----------
    {classifier}

    {facts}

    See Also
    --------
    MaxLogitOODDetector : The limit of temperature 0.
    ReActOODDetector : The same on rectified features.

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
    >>> bool((detector.predict(X[1000:] / 16) == 1).mean() > 0.85)
    True
    >>> detector.predict_class(X[1000:1003] / 16)
    array([1, 4, 0])
    """

    _parameter_constraints = {
        **BasePostHocDetector._parameter_constraints,
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        estimator=None,
        *,
        temperature=1.0,
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
        self.temperature = temperature

    def _score(self, features, weight, bias):
        return negative_energy(features @ weight.T + bias, self.temperature)
