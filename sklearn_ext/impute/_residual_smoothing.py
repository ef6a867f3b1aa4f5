r"""What a Gaussian model leaves unexplained, regressed on the kernel between rows.

Residuals :math:`R_{jp}` of observed entries are taken against the prediction of the entry from the
rest of its row. A hole (i, p) with conditional mean :math:`z_{ip}` becomes

.. math::
    \hat x_{ip} = z_{ip} + \frac{\sum_j k_{ij}^{(-p)} O_{jp} R_{jp}}
                                {k_0 + \sum_j k_{ij}^{(-p)} O_{jp}}, \qquad
    k_{ij}^{(-p)} = \exp\Bigl(-\gamma \sum_{q \neq p}
        \bigl[(z_{iq} - z_{jq})^2 + v_{iq} + v_{jq}\bigr]\Bigr),

with the variances v of the holes, 0 where observed. Feature p stays out of its own distance, and a
row has no weight on its own holes. All is in units in which each feature has range one.
"""

from typing import NamedTuple

import numpy as np

from ._gaussian_em import fit_gaussian
from ._held_out_choice import hide

_GAMMAS = (0.3, 1.0, 3.0, 10.0, 30.0)
_PRIOR_MASSES = (0.3, 1.0, 4.0)
_LEAST_GAIN = 0.02


class Anchors(NamedTuple):
    """Rows to regress on: means, variances, observed entries, residuals, each (m, d)."""

    Z: np.ndarray
    V: np.ndarray
    observed: np.ndarray
    residuals: np.ndarray


class Smoothing(NamedTuple):
    """Bandwidth gamma and prior mass k_0."""

    gamma: float
    prior_mass: float


def make_anchors(engine, X, mean, cov, unit):
    """Means, variances and residuals of rows, in units of `unit`.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    X : ndarray of shape (m, d + q)
        Rows with holes; label columns, if any, come last.
    mean, cov : ndarrays of shape (d + q,), (d + q, d + q)
    unit : ndarray of shape (d,)
        Range of each feature.

    Returns
    -------
    Anchors
    """
    d = len(unit)
    table = engine.table(X)
    Z, V = engine.posterior(table, mean, cov)
    rest = X - engine.leave_one_out(table, mean, cov)
    return Anchors(
        Z=Z[:, :d] / unit,
        V=V[:, :d] / unit**2,
        observed=~np.isnan(X[:, :d]),
        residuals=np.nan_to_num(rest[:, :d]) / unit,
    )


def smooth(engine, Z, V, holes, anchors, smoothing, unit):
    """Corrections of the conditional means at the holes, 0 elsewhere."""
    totals, masses = engine.smooth(Z / unit, V / unit**2, holes, anchors, smoothing.gamma)
    return unit * totals / (smoothing.prior_mass + masses)


def choose_smoothing(engine, X, nu, hidden_sets, unit, *, max_iter, tol):
    """Choose the smoothing by hidden entries, with everything refitted without them.

    Residuals of observed entries must not judge it: the coordinates of imputed neighbours contain
    those entries already.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    X : ndarray of shape (m, d + q)
        Rows with holes, label columns last.
    nu : float
    hidden_sets : list of bool ndarrays of shape (m, d)
    unit : ndarray of shape (d,)
    max_iter, tol
        As in :func:`fit_gaussian`.

    Returns
    -------
    Smoothing or None
        None unless the root mean squared error falls by two per cent.
    """
    d = len(unit)
    before, after = 0.0, np.zeros((len(_GAMMAS), len(_PRIOR_MASSES)))
    for hidden in hidden_sets:
        rows = hide(X, hidden)
        fit = fit_gaussian(engine, rows, nu, max_iter=max_iter, tol=tol)
        mean, cov = fit.mean[:d], fit.cov[:d, :d]
        anchors = make_anchors(engine, rows[:, :d], mean, cov, unit)
        error = (X[:, :d] / unit - anchors.Z)[hidden]
        before += np.sum(error**2)
        for a, gamma in enumerate(_GAMMAS):
            totals, masses = engine.smooth(anchors.Z, anchors.V, hidden, anchors, gamma)
            for b, mass in enumerate(_PRIOR_MASSES):
                shift = totals[hidden] / (mass + masses[hidden])
                after[a, b] += np.sum((error - shift) ** 2)
    a, b = np.unravel_index(np.argmin(after), after.shape)
    if after[a, b] > (1.0 - _LEAST_GAIN) ** 2 * before:
        return None
    return Smoothing(_GAMMAS[a], _PRIOR_MASSES[b])
