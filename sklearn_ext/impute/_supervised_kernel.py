"""The expected kernel of incomplete rows, corrected by their labels."""

from typing import NamedTuple

import numpy as np

from ._dual_machines import ridge_duals, svm_duals
from ._gaussian_model import complete
from ._incomplete_kernel import expected_kernel
from ._kernel_correction import correct_kernel
from ._label_columns import LabelColumns


class SupervisedKernel(NamedTuple):
    """A kernel between rows and the machine on it.

    The kernel is the product of ``initial`` and ``factor``; ``dual_coef`` is (n, c) and
    ``intercept`` (c,), without columns if there are no labels.
    """

    initial: np.ndarray
    factor: np.ndarray
    dual_coef: np.ndarray
    intercept: np.ndarray


def scale_gamma(unit):
    """One over the number of columns times their mean variance, in units of their ranges."""
    return 1.0 / max(np.sum(1.0 / unit**2), np.finfo(float).tiny) if len(unit) else 1.0


def expected_rows(engine, model, X):
    """Means and variances of rows given their observed features, in units of the ranges."""
    Z, V = complete(engine, model, X)
    return Z / model.unit, V / model.unit**2


class Machine(NamedTuple):
    """A kernel machine for some labels, from a kernel to dual coefficients and intercepts."""

    labels: LabelColumns
    C: float

    def __call__(self, K):
        if self.labels.classes is not None:
            return svm_duals(K, self.labels.signs(), self.C)
        return ridge_duals(K, self.labels.values, self.C)


def machine(labels, C):
    """Choose the machine that suits the labels; None without labels.

    Classes have a support vector machine each, against the rest; targets have ridge regression.
    """
    return Machine(labels, C) if labels.values.shape[1] else None


def correct(initial, solve, kappa, **options):
    """Correct a kernel by labels; as it is without labels."""
    if solve is None:
        n = len(initial)
        return SupervisedKernel(initial, np.ones((n, n)), np.empty((n, 0)), np.empty(0))
    return SupervisedKernel(initial, *correct_kernel(initial, solve, kappa, **options))


def landmark_kernel(engine, model, solve, *, gamma, kappa, perturbation):
    """Corrected expected kernel of a model's landmarks.

    The radius of the perturbation grows with their number and share of holes.
    """
    X = model.landmarks[:, : len(model.unit)]
    Z, V = expected_rows(engine, model, X)
    radius = perturbation * np.isnan(X).mean() * len(X) if X.size else 0.0
    return correct(expected_kernel(engine, Z, V, gamma), solve, kappa, radius=radius)
