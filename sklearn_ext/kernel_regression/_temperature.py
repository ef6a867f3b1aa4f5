"""One number that turns scores into calibrated probabilities."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from ..utils._typing import FloatArray, IntArray

_LOG_TEMPERATURE_RANGE = (-5.0, 5.0)


def fit_temperature(
    scores: FloatArray, y: IntArray, weights: FloatArray, *, n_samples: float | None = None
) -> float:
    r"""Return the T for which the softmax of ``scores / T`` best fits held-out labels.

    T minimizes the cross-entropy against labels that are smoothed as in Platt's scaling: with n
    samples, the true class gets :math:`(n + 1) / (n + 2)` and the other classes share
    :math:`1 / (n + 2)` evenly. Thus a few samples that are all classified well do not drive T to
    zero.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes)
        Scores of samples that the classifier was not trained on.
    y : ndarray of shape (n_samples,)
        Class indices.
    weights : ndarray of shape (n_samples,)
        Weights of the samples.
    n_samples : float, default=None
        Number n of samples for the smoothing; None means the length of `scores`. Pass the number
        of original samples if weights stand for copies.

    Returns
    -------
    float
        The temperature, between exp(-5) and exp(5).

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017.
    .. [2] J. Platt, "Probabilistic Outputs for Support Vector Machines", 1999.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.kernel_regression import fit_temperature
    >>> scores = np.array([[1.0, -1.0], [-1.0, 1.0]])
    >>> round(fit_temperature(scores, np.array([0, 1]), np.ones(2)), 2)
    1.82
    """
    n_rows, n_classes = scores.shape
    n_samples = n_rows if n_samples is None else n_samples
    smooth = np.full(scores.shape, 1.0 / ((n_samples + 2.0) * (n_classes - 1.0)))
    smooth[np.arange(n_rows), y] = (n_samples + 1.0) / (n_samples + 2.0)

    def cross_entropy(log_temperature: float) -> float:
        log_proba = log_softmax(scores / np.exp(log_temperature), axis=1)
        return -np.average((smooth * log_proba).sum(axis=1), weights=weights)

    best = minimize_scalar(cross_entropy, bounds=_LOG_TEMPERATURE_RANGE, method="bounded")
    return float(np.exp(best.x))
