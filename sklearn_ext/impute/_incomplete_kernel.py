r"""Gaussian kernels between rows with holes.

Three answers to the question how alike two rows are when some of their entries are unknown:

- the *common* kernel :math:`K_o = \exp(-\gamma D_o)` on the features that both rows have. It is
  biased towards one, most for the emptiest rows, and indefinite;
- *bounds* on what the unknown entries can take from it, when every feature has a known range;
- the *expected* kernel under independent Gaussian laws of the holes, which is positive
  semidefinite.

Notation: ``observed`` is the mask O, holes of X are 0 or any finite number.
"""

import numpy as np


def common_sqdist(X, observed, Y=None, observed_y=None):
    r"""Squared distances on the features that both rows have, as three matrix products.

    .. math:: (D_o)_{ij} = \sum_p O_{ip} O_{jp} (x_{ip} - y_{jp})^2

    Parameters
    ----------
    X, observed : ndarrays of shape (n, d)
    Y, observed_y : ndarrays of shape (m, d), default=None
        The other rows; None for the same rows.

    Returns
    -------
    ndarray of shape (n, m)
    """
    if Y is None:
        Y, observed_y = X, observed
    Z, W = np.where(observed, X, 0.0), np.where(observed_y, Y, 0.0)
    D = (Z * Z) @ observed_y.T.astype(float) + observed.astype(float) @ (W * W).T - 2.0 * Z @ W.T
    return np.maximum(D, 0.0)


def missing_sqdist_bound(X, observed, low=0.0, high=1.0):
    r"""Largest squared distance that the features not common to two rows can add.

    With :math:`w = \max(x - l, u - x)^2` of an observed entry of range [l, u],

    .. math:: F_{ij} = \sum_p \bigl[ M_{ip} M_{jp} (u_p - l_p)^2
        + M_{ip} O_{jp} w_{jp} + O_{ip} M_{jp} w_{ip} \bigr],

    and 0 on the diagonal.

    Parameters
    ----------
    X, observed : ndarrays of shape (n, d)
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


def published_lower_bound(observed, gamma):
    r"""Lower bound of the correction as the published program computes it.

    Its mask is inverted, which leaves :math:`\exp(-\gamma (d - \#\text{both missing}))`, also on
    the diagonal, whatever the values are.
    """
    M = 1.0 - observed
    return np.exp(-gamma * (observed.shape[1] - M @ M.T))


def gaussian_kernel(D, gamma):
    r"""Return :math:`\exp(-\gamma D)`, but never 0, so that it can be divided by."""
    return np.maximum(np.exp(-gamma * D), 1e-300)


def expected_kernel(engine, Z, V, gamma):
    r"""Compute the expected Gaussian kernel of rows whose holes have independent Gaussian laws.

    .. math::
        \bar K_{ij} = \prod_p (1 + 2 \gamma s)^{-1/2}
            \exp\Bigl(-\frac{\gamma (z_{ip} - z_{jp})^2}{1 + 2 \gamma s}\Bigr), \qquad
        s = v_{ip} + v_{jp},\ i \neq j,

    and one on the diagonal. Off the diagonal it is an inner product of mean embeddings, whose
    own diagonal is at most one: it is positive semidefinite.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    Z, V : ndarrays of shape (n, d)
        Means and variances; the variance of an observed entry is 0.
    gamma : float

    Returns
    -------
    ndarray of shape (n, n)
    """
    K = engine.expected_kernel(Z, V, Z, V, gamma)
    np.fill_diagonal(K, 1.0)
    return K
