r"""Gaussian kernels on the features observed in both samples, and bounds on the rest.

The *common* kernel :math:`K_o = \exp(-\gamma D_o)` uses the features that are observed in both
samples. It is indefinite and biased toward one, most strongly for samples with few observed
entries. The bounds limit how far the missing entries can lower it if every feature has a known
range.

``observed`` is the mask O. Missing values of X may be NaN or any finite number.
"""

import numpy as np

from ...utils._typing import BoolArray, FloatArray


def common_sqdist(
    X: FloatArray,
    observed: BoolArray,
    Y: FloatArray | None = None,
    observed_y: BoolArray | None = None,
) -> FloatArray:
    r"""Compute squared distances on common features by three matrix products.

    .. math:: (D_o)_{ij} = \sum_p O_{ip} O_{jp} (x_{ip} - y_{jp})^2

    Parameters
    ----------
    X, observed : ndarray of shape (n, d)
    Y, observed_y : ndarray of shape (m, d), default=None
        The other samples. None means X itself.

    Returns
    -------
    ndarray of shape (n, m)
    """
    if Y is None or observed_y is None:
        Y, observed_y = X, observed
    Z, W = np.where(observed, X, 0.0), np.where(observed_y, Y, 0.0)
    D = (Z * Z) @ observed_y.T.astype(float) + observed.astype(float) @ (W * W).T - 2.0 * Z @ W.T
    return np.maximum(D, 0.0)


def missing_sqdist_bound(
    X: FloatArray,
    observed: BoolArray,
    low: float | FloatArray = 0.0,
    high: float | FloatArray = 1.0,
) -> FloatArray:
    r"""Bound the squared distance that features not common to two samples can add.

    For an observed entry x with range [l, u], let :math:`w = \max(x - l, u - x)^2`. The bound is

    .. math:: F_{ij} = \sum_p \bigl[ M_{ip} M_{jp} (u_p - l_p)^2
        + M_{ip} O_{jp} w_{jp} + O_{ip} M_{jp} w_{ip} \bigr],

    and 0 on the diagonal.

    Parameters
    ----------
    X, observed : ndarray of shape (n, d)
    low, high : float or ndarray of shape (d,)

    Returns
    -------
    ndarray of shape (n, n)
    """
    M = 1.0 - observed
    W = np.where(observed, np.maximum(X - low, high - X) ** 2, 0.0)
    F = W @ M.T + M @ W.T + (M * (np.asarray(high) - low) ** 2) @ M.T
    np.fill_diagonal(F, 0.0)
    return F


def published_lower_bound(observed: BoolArray, gamma: float) -> FloatArray:
    r"""Bound the correction from below as the authors' program does.

    The program inverts its mask, so its bound is
    :math:`\exp(-\gamma (d - \#\text{both missing}))` for any values, even on the diagonal.
    """
    M = 1.0 - observed
    return np.exp(-gamma * (observed.shape[1] - M @ M.T))


def gaussian_kernel(D: FloatArray, gamma: float) -> FloatArray:
    r"""Compute :math:`\exp(-\gamma D)`, bounded away from 0 so that it can be a divisor."""
    return np.maximum(np.exp(-gamma * D), 1e-300)
