"""The expected kernel of samples with missing values, corrected by their labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from sklearn.utils import gen_batches

from ..utils._typing import FloatArray
from ._label_columns import LabelColumns
from .gaussian import GaussianEngine, GaussianImputation, make_engine
from .published import (
    CorrectedKernel,
    DualSolver,
    correct_kernel,
    least_squares_machines,
    ridge_duals,
    squared_hinge_machines,
    svm_duals,
)

_BATCH = 4096  # samples whose kernel is in memory at once
_MOST_MACHINES = 10  # more machines have the squared loss, to share a factorization


@dataclass(frozen=True, kw_only=True)
class SupervisedKernelConfig:
    """Settings of :func:`fit_landmark_kernel` and :func:`fit_kernel_machine`.

    Parameters
    ----------
    gamma : float
        Coefficient of squared distances, in units of the features' ranges.
    C : float
        Penalty of the machines.
    kappa : float in [0, 1]
        Largest relative change that the labels make to an entry of the kernel.
    perturbation : float
        Radius of the worst-case perturbation, per sample and fraction of missing entries.
    class_weight : tuple of float, default=None
        Factor of `C` for the samples of each class.
    """

    gamma: float
    C: float
    kappa: float
    perturbation: float
    class_weight: tuple[float, ...] | None = None

    def sample_weights(self, labels: LabelColumns) -> FloatArray | None:
        """Return the factor of `C` for each sample; 1 for a sample without a label."""
        if self.class_weight is None:
            return None
        return np.array([*self.class_weight, 1.0])[labels.codes]


class KernelMachine(NamedTuple):
    """Machines on the expected kernel between samples and landmarks.

    Attributes
    ----------
    landmarks : ndarray of shape (m, d)
        Conditional means of the landmarks, in units of the features' ranges.
    variances : ndarray of shape (m, d)
        Conditional variances of the landmarks, in squared units.
    dual_coef : ndarray of shape (m, c)
        Signed dual coefficients.
    intercept : ndarray of shape (c,)
        Intercepts.
    """

    landmarks: FloatArray
    variances: FloatArray
    dual_coef: FloatArray
    intercept: FloatArray


def resolve_gamma(gamma: float | str, units: FloatArray) -> float:
    """Return `gamma`; for "scale", the reciprocal of the sum of the columns' variances."""
    if not isinstance(gamma, str):
        return gamma
    return float(1.0 / max(np.sum(1.0 / units**2), np.finfo(float).tiny)) if len(units) else 1.0


def expected_gaussian_kernel(
    Z: FloatArray, V: FloatArray, gamma: float, *, engine: GaussianEngine | None = None
) -> FloatArray:
    r"""Compute the expected Gaussian kernel of samples with independent Gaussian entries.

    For entries with means z and variances v, the expectation of
    :math:`\exp(-\gamma \lVert x_i - x_j \rVert^2)` is

    .. math::
        \bar K_{ij} = \prod_p (1 + 2 \gamma s)^{-1/2}
            \exp\Bigl(-\frac{\gamma (z_{ip} - z_{jp})^2}{1 + 2 \gamma s}\Bigr), \qquad
        s = v_{ip} + v_{jp},\ i \neq j,

    and the diagonal is one. Off the diagonal, the kernel is an inner product of mean embeddings
    whose own diagonal is at most one, so it is positive semidefinite.

    Parameters
    ----------
    Z : ndarray of shape (n, d)
        Means of the entries.
    V : ndarray of shape (n, d)
        Variances of the entries. The variance of an observed entry is 0.
    gamma : float
        Coefficient of squared distances.
    engine : GaussianEngine, default=None
        Engine that does the computations. None means the numba engine.

    Returns
    -------
    ndarray of shape (n, n)
        The kernel.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.impute import expected_gaussian_kernel
    >>> Z, V = np.array([[0.0], [0.0]]), np.array([[0.0], [1.5]])
    >>> expected_gaussian_kernel(Z, V, gamma=1.0)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    engine = make_engine() if engine is None else engine
    K = engine.expected_kernel(Z, V, Z, V, gamma)
    np.fill_diagonal(K, 1.0)
    return K


def dual_solver(
    labels: LabelColumns, C: float, weights: FloatArray | None = None
) -> DualSolver | None:
    """Return the dual solver for the labels, or None without labels.

    Classes use one support vector machine each, one against the rest, or kernel ridge regression on
    +1 and -1 if there are more than ten. Targets use ridge regression. `weights` are factors of C
    for each sample.
    """
    if labels.values.shape[1] == 0:
        return None
    if labels.classes is None:
        return partial(ridge_duals, targets=labels.values, C=C, weights=weights)
    signs = labels.signs()
    if signs.shape[1] > _MOST_MACHINES:
        return partial(
            ridge_duals, targets=np.where(signs == 0.0, np.nan, signs), C=C, weights=weights
        )
    return partial(svm_duals, signs=signs, C=C, weights=weights)


def fit_landmark_kernel(
    imputation: GaussianImputation,
    labels: LabelColumns,
    config: SupervisedKernelConfig,
    engine: GaussianEngine,
) -> CorrectedKernel:
    """Correct the expected kernel between the landmarks of a model by their labels.

    Parameters
    ----------
    imputation : GaussianImputation
    labels : LabelColumns
        Labels of the landmarks.
    config : SupervisedKernelConfig
    engine : GaussianEngine

    Returns
    -------
    CorrectedKernel
    """
    landmarks = imputation.landmarks[:, : len(imputation.units)]
    Z, V = _posterior(imputation, landmarks, engine)
    # The radius grows with the number of samples and their fraction of missing entries.
    missing_fraction = np.isnan(landmarks).mean() if landmarks.size else 0.0
    return correct_kernel(
        expected_gaussian_kernel(Z, V, config.gamma, engine=engine),
        dual_solver(labels, config.C, config.sample_weights(labels)),
        config.kappa,
        radius=config.perturbation * missing_fraction * len(landmarks),
    )


def fit_kernel_machine(
    imputation: GaussianImputation,
    X: FloatArray,
    labels: LabelColumns,
    config: SupervisedKernelConfig,
    engine: GaussianEngine,
) -> KernelMachine:
    r"""Fit machines on the expected kernel between training samples and landmarks.

    If all samples are landmarks, the kernel is corrected by labels. Otherwise, it is not corrected,
    and the machines are linear on the Nyström features :math:`K_{nm} K_{mm}^{-1/2}`. Their loss is
    the squared hinge loss, or the squared loss if there are more than ten classes. They are
    expressed as dual coefficients.

    Parameters
    ----------
    imputation : GaussianImputation
    X : ndarray of shape (n, d)
        Training samples in model columns.
    labels : LabelColumns
        Class labels of all training samples.
    config : SupervisedKernelConfig
    engine : GaussianEngine

    Returns
    -------
    KernelMachine
    """
    Z, V = _posterior(imputation, imputation.landmarks[:, : len(imputation.units)], engine)
    if len(Z) == len(X):
        kernel = fit_landmark_kernel(imputation, labels, config, engine)
        return KernelMachine(Z, V, kernel.dual_coef, kernel.intercept)
    values, vectors = np.linalg.eigh(engine.expected_kernel(Z, V, Z, V, config.gamma))
    kept = values > 1e-10 * values[-1]
    root = vectors[:, kept] / np.sqrt(values[kept])
    features = np.empty((len(X), root.shape[1]))
    first = 0
    for K in _kernel_batches(imputation, X, Z, V, config.gamma, engine):
        features[first : first + len(K)] = K @ root
        first += len(K)
    signs = labels.signs()
    fit = squared_hinge_machines if signs.shape[1] <= _MOST_MACHINES else least_squares_machines
    coef, intercept = fit(features, signs, config.C, weights=config.sample_weights(labels))
    return KernelMachine(Z, V, root @ coef, intercept)


def machine_scores(
    imputation: GaussianImputation,
    machine: KernelMachine,
    X: FloatArray,
    gamma: float,
    engine: GaussianEngine,
) -> FloatArray:
    """Return the decision values of samples, of shape (n, c)."""
    batches = _kernel_batches(imputation, X, machine.landmarks, machine.variances, gamma, engine)
    return np.vstack([K @ machine.dual_coef + machine.intercept for K in batches])


def _kernel_batches(
    imputation: GaussianImputation,
    X: FloatArray,
    landmarks: FloatArray,
    variances: FloatArray,
    gamma: float,
    engine: GaussianEngine,
) -> Iterator[FloatArray]:
    for batch in gen_batches(len(X), _BATCH):
        Z, V = _posterior(imputation, X[batch], engine)
        yield engine.expected_kernel(Z, V, landmarks, variances, gamma)


def _posterior(
    imputation: GaussianImputation, X: FloatArray, engine: GaussianEngine
) -> tuple[FloatArray, FloatArray]:
    """Return conditional means and variances in units of the features' ranges."""
    Z, V = imputation.transform(X, engine=engine)
    return Z / imputation.units, V / imputation.units**2
