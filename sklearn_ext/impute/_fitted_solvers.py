"""What the imputer's two solvers learn and do, behind one interface.

A solver is made from standardised rows and encoded labels. It completes rows, says which kernel it
has, and names what the estimator shows. Engines are arguments: a fitted model does not own one.
"""

import numpy as np

from . import _published_model as published
from ._gaussian_model import complete, fit_model, leave_one_out
from ._supervised_kernel import landmark_kernel, machine, scale_gamma

_DEFAULT_STOPPING = {"regression": (30, 1e-3), "published": (10_000, 1e-4)}


class RegressionSolver:
    """The shrunk joint Gaussian of features and labels, with residual smoothing.

    Parameters
    ----------
    engine : NumbaEngine or TorchEngine
    params : dict
        Parameters of the estimator.
    columns : ModelColumns
    rows : ndarray of shape (n, d)
        Columns of unit variance.
    labels : LabelColumns
    rng : RandomState
    """

    has_posterior = True

    def __init__(self, engine, params, columns, rows, labels, rng):
        self._label_mean, self._label_scale = _label_moments(labels.values)
        max_iter, tol = stopping(params)
        self.model = fit_model(
            engine,
            rows,
            self._standardize(labels),
            labels.codes,
            columns.unit,
            rng,
            shrinkage=params["shrinkage"],
            smoothing=params["residual_smoothing"],
            max_landmarks=params["max_landmarks"],
            max_iter=max_iter,
            tol=tol,
        )
        self._machine = machine(labels.take(self.model.landmark_indices), params["C"])
        self._gamma = resolve_gamma(params, columns)
        self._kappa, self._perturbation = params["kappa"], params["perturbation"]

    def complete(self, engine, rows, noise=None):
        """Return means (or draws) and variances of rows given their features."""
        return complete(engine, self.model, rows, noise=noise)

    def complete_training(self, engine, rows, labels, noise=None):
        """Do the same for training rows, given their labels too."""
        return complete(engine, self.model, rows, self._standardize(labels), noise)

    def score(self, engine, rows):
        """Compute one minus the mean squared error of entries left out, in standard deviations."""
        left_out = leave_one_out(engine, self.model, rows)
        return 1.0 - float(np.nanmean((rows - left_out) ** 2))

    def kernel(self, engine):
        """Compute the landmarks' expected kernel, corrected by their labels."""
        return landmark_kernel(
            engine,
            self.model,
            self._machine,
            gamma=self._gamma,
            kappa=self._kappa,
            perturbation=self._perturbation,
        )

    def attributes(self, columns):
        """Fitted attributes that only this solver has."""
        model = self.model
        location, covariance = columns.moments(
            model.mean, model.cov, self._label_mean, self._label_scale
        )
        return {
            "location_": location,
            "covariance_": covariance,
            "shrinkage_": model.shrinkage,
            "smoothing_": model.smoothing,
            "landmark_indices_": model.landmark_indices,
            "gamma_": self._gamma,
            "loss_curve_": np.array(model.changes),
            "n_iter_": len(model.changes),
        }

    @property
    def n_labels(self):
        """Number of label columns."""
        return len(self._label_mean)

    def _standardize(self, labels):
        return (labels.values - self._label_mean) / self._label_scale


class PublishedSolver:
    """The two-stage method of the paper, or its variant around a base imputation.

    Parameters are those of :class:`RegressionSolver`.
    """

    has_posterior = False

    def __init__(self, engine, params, columns, rows, labels, rng):
        _check_published(params, labels, len(rows))
        self._low, self._unit = columns.low, columns.unit
        self._gamma = resolve_gamma(params, columns)
        X = np.clip((rows - self._low) / self._unit, 0.0, 1.0)
        if params["center"] == "base":
            base_params = {**params, "solver": "regression", "max_iter": None, "tol": None}
            self._base = RegressionSolver(engine, base_params, columns, rows, labels, rng)
            Z, _ = self._base.complete_training(engine, rows, labels)
            self.model = published.fit_centered(
                X,
                (Z - self._low) / self._unit,
                machine(labels, params["C"]),
                gamma=self._gamma,
                kappa=params["kappa"],
            )
        else:
            self._base = None
            max_iter, tol = stopping(params)
            self.model = published.fit_published(
                X,
                labels.signs()[:, 0],
                gamma=self._gamma,
                C=params["C"],
                eta=None if params["eta"] == "auto" else params["eta"],
                perturbation=params["perturbation"],
                bounds=params["bounds"],
                max_iter=max_iter,
                tol=tol,
            )

    def complete(self, engine, rows, noise=None):
        """Complete rows one by one, by their distances to the imputed training rows.

        Labels do not correct the kernel of a new row, so with a base its distances are those of
        the base's completion, and stage II has nothing to change.
        """
        if self._base is not None:
            return self._base.complete(engine, rows)[0], None
        X = np.clip((rows - self._low) / self._unit, 0.0, 1.0)
        return published.complete_rows(self.model, X) * self._unit + self._low, None

    def complete_training(self, engine, rows, labels, noise=None):
        """Return the training rows as stage II leaves them."""
        return self.model.rows * self._unit + self._low, None

    def kernel(self, engine):
        """Return the kernel that stage I has learned."""
        return self.model.kernel

    def attributes(self, columns):
        """Fitted attributes that only this solver has."""
        return {
            "landmark_indices_": np.arange(len(self.model.rows)),
            "gamma_": self._gamma,
            "loss_curve_": np.array(self.model.objective),
            "n_iter_": len(self.model.objective),
        }


SOLVERS = {"regression": RegressionSolver, "published": PublishedSolver}


def stopping(params):
    """Greatest number of iterations and tolerance, with the solver's defaults for None."""
    defaults = _DEFAULT_STOPPING[params["solver"]]
    given = params["max_iter"], params["tol"]
    return tuple(d if g is None else g for g, d in zip(given, defaults, strict=True))


def resolve_gamma(params, columns):
    """Coefficient of squared distances in units of the features' ranges."""
    return scale_gamma(columns.unit) if params["gamma"] == "scale" else params["gamma"]


def _label_moments(values):
    known = ~np.isnan(values)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, values, 0.0).sum(axis=0) / counts
    scale = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / counts)
    return mean, np.where(scale > 0.0, scale, 1.0)


def _check_published(params, labels, n_rows):
    if n_rows > published.MAX_ROWS:
        raise ValueError(
            f"solver='published' holds matrices between all rows and takes at most "
            f"{published.MAX_ROWS} of them, got {n_rows}; use solver='regression'."
        )
    if params["sample_posterior"]:
        raise ValueError("sample_posterior=True needs solver='regression', got 'published'.")
    if params["center"] == "observed" and (labels.classes is None or len(labels.classes) != 2):
        got = "none" if labels.classes is None else f"{len(labels.classes)} classes"
        raise ValueError(
            f"solver='published' with center='observed' needs labels of 2 classes, got {got}; "
            "use center='base' or solver='regression'."
        )
