"""Dual coefficients of kernel machines on a given kernel matrix."""

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.svm import SVC


def svm_duals(K, signs, C, tol=1e-3):
    """One support vector machine a column of `signs`, on a precomputed kernel.

    Parameters
    ----------
    K : ndarray of shape (n, n)
    signs : ndarray of shape (n, c)
        Targets +1 and -1; rows of zeros have no label and get no weight. A column of one sign,
        of a class that is rare, gets the machine that always says so.
    C : float
    tol : float

    Returns
    -------
    dual_coef : ndarray of shape (n, c)
        The products of alpha and y.
    intercept : ndarray of shape (c,)
    """
    dual_coef, intercept = np.zeros(signs.shape), np.zeros(signs.shape[1])
    for k, column in enumerate(signs.T):
        rows = np.flatnonzero(column)
        if len(np.unique(column[rows])) < 2:
            intercept[k] = np.sign(column.sum())
            continue
        machine = SVC(C=C, kernel="precomputed", tol=tol, random_state=0)
        machine.fit(K[np.ix_(rows, rows)], column[rows])
        dual_coef[rows[machine.support_], k] = machine.dual_coef_[0]
        intercept[k] = machine.intercept_[0]
    return dual_coef, intercept


def ridge_duals(K, targets, C):
    r"""Kernel ridge regression, :math:`a = (K + I / 2C)^{-1} (y - \bar y)`.

    Rows whose targets are NaN get no weight.

    Returns
    -------
    dual_coef : ndarray of shape (n, c)
    intercept : ndarray of shape (c,)
    """
    known = ~np.isnan(targets).any(axis=1)
    dual_coef, intercept = np.zeros(targets.shape), targets[known].mean(axis=0)
    A = K[np.ix_(known, known)]
    A.flat[:: len(A) + 1] += 0.5 / C
    dual_coef[known] = cho_solve(cho_factor(A, lower=True), targets[known] - intercept)
    return dual_coef, intercept
