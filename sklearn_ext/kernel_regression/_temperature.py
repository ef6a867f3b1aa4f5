"""One number that turns scores into calibrated probabilities."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

_LOG_RANGE = (-5.0, 5.0)


def fit_temperature(scores, y, weights):
    r"""Return the T whose softmax of ``scores / T`` fits held-out labels best.

    Minimises the cross-entropy against labels smoothed as in Platt's scaling: with n rows the true
    class gets :math:`(n + 1) / (n + 2)` and the others share :math:`1 / (n + 2)`. So a few rows
    that are all classified well do not drive T to zero.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_classes)
    y : ndarray of shape (n_samples,)
        Indices of the classes.
    weights : ndarray of shape (n_samples,)

    Returns
    -------
    float

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks", ICML
    2017; J. Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
    """
    n_samples, n_classes = scores.shape
    smooth = np.full(scores.shape, 1.0 / ((n_samples + 2.0) * (n_classes - 1.0)))
    smooth[np.arange(n_samples), y] = (n_samples + 1.0) / (n_samples + 2.0)

    def cross_entropy(log_T):
        log_proba = log_softmax(scores / np.exp(log_T), axis=1)
        return -np.average((smooth * log_proba).sum(axis=1), weights=weights)

    return float(np.exp(minimize_scalar(cross_entropy, bounds=_LOG_RANGE, method="bounded").x))
