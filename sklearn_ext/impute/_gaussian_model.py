"""The default model of an incomplete table: a joint Gaussian of features and labels, refined."""

from typing import NamedTuple

import numpy as np

from ..utils._held_out import hide_entries
from ._gaussian_em import fit_gaussian
from ._held_out_choice import HIDDEN_SHARE, choose_shrinkage
from ._residual_smoothing import Anchors, Smoothing, choose_smoothing, make_anchors, smooth

_FIT_ROWS = 20_000  # covariances of more rows are no better for what follows
_CHOICE_ROWS = 2_000


class GaussianModel(NamedTuple):
    """A fitted model in columns of unit variance, features before labels.

    Attributes
    ----------
    mean : ndarray of shape (d + q,)
    cov : ndarray of shape (d + q, d + q)
    nu : float
    changes : list of float
        Relative change of the covariance by iteration.
    unit : ndarray of shape (d,)
        Range of each feature column.
    landmarks : ndarray of shape (m, d + q)
        Rows that kernels are computed on, with their holes.
    landmark_indices : ndarray of shape (m,)
    smoothing : Smoothing or None
    anchors, labelled_anchors : Anchors or None
        The landmarks as the smoother sees them, without and with their labels.
    """

    mean: np.ndarray
    cov: np.ndarray
    nu: float
    changes: list
    unit: np.ndarray
    landmarks: np.ndarray
    landmark_indices: np.ndarray
    smoothing: Smoothing | None
    anchors: Anchors | None
    labelled_anchors: Anchors | None

    @property
    def shrinkage(self):
        """Share by which covariances are shrunk."""
        return self.nu / (1.0 + self.nu)


def fit_model(
    engine, X, labels, strata, unit, rng, *, shrinkage, smoothing, max_landmarks, max_iter, tol
):
    """Fit the joint Gaussian, choosing what is not given by hidden entries.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    X : ndarray of shape (n, d)
        Holes are NaN.
    labels : ndarray of shape (n, q)
    strata : int ndarray of shape (n,)
        Classes by which landmarks are stratified.
    unit : ndarray of shape (d,)
    rng : RandomState
    shrinkage : float in [0, 1) or "auto"
        Share by which covariances are shrunk; "auto" chooses it.
    smoothing : bool
        Whether residual smoothing may be used.
    max_landmarks, max_iter : int
    tol : float

    Returns
    -------
    GaussianModel
    """
    d = X.shape[1]
    rows = np.hstack((X, labels))
    indices = stratified_sample(strata, max_landmarks, rng)
    landmarks = rows[indices]
    fit_rows = rows[uniform_sample(len(rows), _FIT_ROWS, rng)]
    first = hide_entries(landmarks[:, :d], HIDDEN_SHARE, rng)
    second = hide_entries(landmarks[:, :d], HIDDEN_SHARE, rng)
    stopping = {"max_iter": max_iter, "tol": tol}

    if shrinkage == "auto":
        if len(rows) > len(landmarks):
            sample = rows[uniform_sample(len(rows), _CHOICE_ROWS, rng)]
            hidden = hide_entries(sample[:, :d], HIDDEN_SHARE, rng)
        else:
            sample, hidden = landmarks, first
        nu = choose_shrinkage(engine, sample, hidden, **stopping)
    else:
        nu = shrinkage / (1.0 - shrinkage)
    fit = fit_gaussian(engine, fit_rows, nu, **stopping)

    chosen = anchors = labelled = None
    if smoothing and first.any() and second.any():
        chosen = choose_smoothing(engine, landmarks, nu, (first, second), unit, **stopping)
    if chosen is not None:
        free = fit.mean[:d], fit.cov[:d, :d]
        anchors = labelled = make_anchors(engine, landmarks[:, :d], *free, unit)
        if labels.shape[1]:
            labelled = make_anchors(engine, landmarks, fit.mean, fit.cov, unit)
    return GaussianModel(
        fit.mean, fit.cov, nu, fit.changes, unit, landmarks, indices, chosen, anchors, labelled
    )  # fmt: skip


def complete(engine, model, X, labels=None, noise=None):
    """Complete rows from their observed entries, and from their labels if given.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    model : GaussianModel
    X : ndarray of shape (n, d)
    labels : ndarray of shape (n, q), default=None
        None leaves labels out of it.
    noise : ndarray of shape (n, d + q), default=None
        Standard normal numbers, for a draw instead of the mean.

    Returns
    -------
    Z, V : ndarrays of shape (n, d)
        Completed rows, and variances of their holes given the rest.
    """
    d = X.shape[1]
    holes = np.isnan(X)
    rows, size, anchors = X, d, model.anchors
    if labels is not None:
        rows, size, anchors = np.hstack((X, labels)), len(model.mean), model.labelled_anchors
    mean, cov = model.mean[:size], model.cov[:size, :size]
    table = engine.table(rows)
    Z, V = engine.posterior(table, mean, cov)
    Z, V = Z[:, :d], V[:, :d]
    shift = 0.0
    if model.smoothing is not None:
        shift = smooth(engine, Z, V, holes, anchors, model.smoothing, model.unit)
    if noise is not None:
        Z = engine.draw(table, mean, cov, noise)[:, :d]
    return Z + shift, V


def leave_one_out(engine, model, X):
    """Predict each observed entry from the other features of its row; NaN at the holes."""
    d = X.shape[1]
    return engine.leave_one_out(engine.table(X), model.mean[:d], model.cov[:d, :d])


def uniform_sample(n, size, rng):
    """Draw indices of at most `size` of n rows, in order."""
    return np.arange(n) if n <= size else np.sort(rng.choice(n, size, replace=False))


def stratified_sample(strata, size, rng):
    """Draw indices of at most `size` rows, in order, with each stratum's share of them."""
    n = len(strata)
    if n <= size:
        return np.arange(n)
    # Rows in random order within each stratum, strata side by side: every k-th of them.
    shuffled = rng.permutation(n)
    by_stratum = shuffled[np.argsort(strata[shuffled], kind="stable")]
    return np.sort(by_stratum[(np.arange(size) * n) // size])
