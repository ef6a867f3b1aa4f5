"""The ridge that the noise in the data asks for, from leave-one-out errors."""

import numpy as np

ALPHAS = np.logspace(-3, 1, 13)


def leave_one_out_alpha(K, Y):
    r"""Return the ridge of kernel ridge regression with the least leave-one-out error.

    With :math:`A = K + \lambda I`, the error of leaving out row i is
    :math:`[A^{-1} Y]_i / [A^{-1}]_{ii}`; one eigendecomposition serves all ridges.

    Parameters
    ----------
    K : ndarray of shape (n, n)
        Symmetric kernel matrix.
    Y : ndarray of shape (n, q)
        Targets, centred.

    Returns
    -------
    float
        One of thirteen values from 1e-3 to 10.
    """
    eigenvalues, U = np.linalg.eigh(K)
    errors = []
    for alpha in ALPHAS:
        inverse = (U / (eigenvalues + alpha)) @ U.T
        residuals = (inverse @ Y) / np.diag(inverse)[:, None]
        errors.append((residuals**2).mean())
    return float(ALPHAS[int(np.argmin(errors))])
