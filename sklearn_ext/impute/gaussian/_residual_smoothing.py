r"""Kernel regression of the residuals of a Gaussian model.

The residual :math:`R_{jp}` of an observed entry is its difference from the prediction based on the
rest of its sample. A missing value (i, p) with conditional mean :math:`z_{ip}` becomes

.. math::
    \hat x_{ip} = z_{ip} + \frac{\sum_j k_{ij}^{(-p)} O_{jp} R_{jp}}
                                {k_0 + \sum_j k_{ij}^{(-p)} O_{jp}}, \qquad
    k_{ij}^{(-p)} = \exp\Bigl(-\gamma \sum_{q \neq p}
        \bigl[(z_{iq} - z_{jq})^2 + v_{iq} + v_{jq}\bigr]\Bigr),

where v are conditional variances, 0 at observed entries, and O marks observed entries. Feature p
does not enter its own distance. All features are scaled to range one.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ...utils._typing import BoolArray, FloatArray
from ._em import fit_gaussian, hide
from ._engine import GaussianEngine

_GAMMAS = (0.3, 1.0, 3.0, 10.0, 30.0)
_PRIOR_MASSES = (0.3, 1.0, 4.0)
_LEAST_GAIN = 0.02


class Anchors(NamedTuple):
    """Samples to regress on: means, variances, observed entries and residuals, each (m, d)."""

    Z: FloatArray
    V: FloatArray
    observed: BoolArray
    residuals: FloatArray


class Smoothing(NamedTuple):
    """Kernel coefficient gamma and prior mass k_0.

    ``error_ratio`` is the ratio of errors on hidden entries with smoothing and without.
    """

    gamma: float
    prior_mass: float
    error_ratio: float


def make_anchors(
    engine: GaussianEngine,
    X: FloatArray,
    mean: FloatArray,
    cov: FloatArray,
    units: FloatArray,
) -> Anchors:
    """Compute means, variances and residuals of samples, in the given units.

    Parameters
    ----------
    engine : GaussianEngine
    X : ndarray of shape (m, d + q)
        Samples with missing values. Label columns, if any, come last.
    mean : ndarray of shape (d + q,)
    cov : ndarray of shape (d + q, d + q)
    units : ndarray of shape (d,)
        Range of each feature.

    Returns
    -------
    Anchors
    """
    d = len(units)
    table = engine.table(X)
    Z, V = engine.posterior(table, mean, cov)
    rest = X - engine.leave_one_out(table, mean, cov)[0]
    return Anchors(
        Z=Z[:, :d] / units,
        V=V[:, :d] / units**2,
        observed=~np.isnan(X[:, :d]),
        residuals=np.nan_to_num(rest[:, :d]) / units,
    )


def smooth(
    engine: GaussianEngine,
    Z: FloatArray,
    V: FloatArray,
    missing: BoolArray,
    anchors: Anchors,
    smoothing: Smoothing,
    units: FloatArray,
) -> FloatArray:
    """Return corrections of the conditional means at missing values, 0 elsewhere."""
    totals, masses = engine.smooth(Z / units, V / units**2, missing, anchors, smoothing.gamma)
    return units * totals / (smoothing.prior_mass + masses)


def choose_smoothing(
    engine: GaussianEngine,
    X: FloatArray,
    nu: float,
    hidden_sets: Iterable[BoolArray],
    units: FloatArray,
    *,
    max_iter: int,
    tol: float,
    reliability: FloatArray | None = None,
) -> Smoothing | None:
    """Choose the smoothing that best predicts entries hidden from the fit.

    Residuals of observed entries cannot replace hidden entries here, because the imputed
    coordinates of neighbors already depend on the observed entries.

    Parameters
    ----------
    engine : GaussianEngine
    X : ndarray of shape (m, d + q)
        Samples with missing values, label columns last.
    nu : float
        Shrinkage of the covariances.
    hidden_sets : iterable of bool ndarrays of shape (m, d)
    units : ndarray of shape (d,)
        Range of each feature.
    max_iter, tol, reliability
        As in :func:`fit_gaussian`.

    Returns
    -------
    Smoothing or None
        None unless the root mean squared error falls by two percent.
    """
    d = len(units)
    before, after = 0.0, np.zeros((len(_GAMMAS), len(_PRIOR_MASSES)))
    for hidden in hidden_sets:
        visible = hide(X, hidden)
        fit = fit_gaussian(engine, visible, nu, max_iter=max_iter, tol=tol, reliability=reliability)
        mean, cov = fit.mean[:d], fit.cov[:d, :d]
        anchors = make_anchors(engine, visible[:, :d], mean, cov, units)
        error = (X[:, :d] / units - anchors.Z)[hidden]
        before += np.sum(error**2)
        for a, gamma in enumerate(_GAMMAS):
            totals, masses = engine.smooth(anchors.Z, anchors.V, hidden, anchors, gamma)
            for b, mass in enumerate(_PRIOR_MASSES):
                shift = totals[hidden] / (mass + masses[hidden])
                after[a, b] += np.sum((error - shift) ** 2)
    best = int(np.argmin(after))
    if after.flat[best] > (1.0 - _LEAST_GAIN) ** 2 * before:
        return None
    a, b = divmod(best, len(_PRIOR_MASSES))
    ratio = float(np.sqrt(after.flat[best] / before))
    return Smoothing(_GAMMAS[a], _PRIOR_MASSES[b], ratio)
