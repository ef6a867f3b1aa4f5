"""What random-feature regression and classification share: rows in, rows out, one solution."""

import copy
from dataclasses import replace
from functools import partial
from numbers import Integral, Real

import numpy as np
import scipy.sparse as sp
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from ...utils._random import local_random_state
from ...utils._validation import check_magnitude
from ._feature_map import KeptFeatures, RowFeatures, draw_frequencies
from ._make_engine import make_engine
from ._solver import (
    changed_solution,
    fit_solution,
    preferred_solver,
    warn_if_imprecise,
    what_to_keep,
)
from ._training_samples import TrainingRows, is_empty_request, locate


class BaseRandomFeature(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Ridge regression on features that do not depend on the rows."""

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "gamma": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "feature_map": [StrOptions({"identity"}), HasMethods(["fit", "transform"]), None],
        "fit_intercept": ["boolean"],
        "solver": [StrOptions({"auto", "dual", "primal"})],
        "store": [StrOptions({"auto", "features"}), "boolean"],
        "refresh_fraction": [Interval(Real, 0, None, closed="left")],
        "device": "no_validation",  # the engine knows which devices there are
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_components=1000,
        *,
        gamma="auto",
        alpha=1e-2,
        feature_map=None,
        fit_intercept=True,
        solver="auto",
        store="auto",
        refresh_fraction=0.5,
        device=None,
        random_state=None,
    ):
        self.n_components = n_components
        self.gamma = gamma
        self.alpha = alpha
        self.feature_map = feature_map
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.store = store
        self.refresh_fraction = refresh_fraction
        self.device = device
        self.random_state = random_state

    def forget(self, indices=None, *, X=None, y=None, sample_weight=None, lazy=False):
        """Forget rows: become the model that was never shown them.

        Parameters
        ----------
        indices : array-like of int or array-like of bool, default=None
            Rows to forget, numbered as given to `fit`, followed by those given to `learn`; or a
            mask over all of these. An empty request changes nothing.
        X : {array-like, sparse matrix} of shape (n_rows, n_features), default=None
            The rows themselves, where the model keeps none (see `store`). They must have been
            learned: what the model does not keep it cannot check.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), default=None
            Their targets.
        sample_weight : array-like of shape (n_rows,), default=None
            The weights with which they were learned.
        lazy : bool, default=False
            Whether the matrix between rows or features, and its inverse, may be left as they are
            until the next request, or until the model is pickled. The coefficients are the same,
            sooner; the rows are not erased before that.

        Returns
        -------
        self : object
            The model without the rows.

        Raises
        ------
        NotFittedError
            If there is no model.
        ValueError
            If an index is out of range, given twice or forgotten already, if nothing would be
            left, if rows are given by value to a model that keeps rows or by index to one that
            does not, or if the rows cannot have been in the model. The model is then unchanged.
        TypeError
            If `indices` is neither a mask nor indices.
        """
        request = self._request(indices, X, y, sample_weight)
        if request is None or len(request[0]) == 0:
            return self
        forgotten, positions, mask = request
        if len(forgotten) >= self.n_retained_:
            raise ValueError(
                f"the request is for {len(forgotten)} of {self.n_retained_} rows; at least one "
                "must be left."
            )
        features, before, rows = self._features_of_kept(), self._solution, self._rows

        def update():
            return before.forget(features, forgotten, rows, positions)

        def retained():
            return rows[np.setdiff1d(np.arange(len(rows)), positions)]

        solution, n_left = self._changed(
            before, update, features, forgotten, rows and retained, -1.0, stacklevel=3
        )
        del self._solution  # interrupted from here on, there is no model instead of half of one
        rows = rows and rows.erased(positions)
        if not lazy:
            solution = solution.settled(features.engine)
        self._commit(solution, rows, forgotten, -1, retained_=mask, n_retained_=n_left)
        return self

    def relabel(self, indices=None, *, X=None, y=None, sample_weight=None):
        """Predictions for rows by the model without them; the model itself stays as it is.

        These are the labels with which the rows do no harm: training on with them ends in the
        model that was never shown the rows.

        Parameters
        ----------
        indices : array-like of int or array-like of bool, default=None
            Rows, as for `forget`.
        X : {array-like, sparse matrix} of shape (n_rows, n_features), default=None
            The rows themselves, where the model keeps none.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs), default=None
            Their targets.
        sample_weight : array-like of shape (n_rows,), default=None
            The weights with which they were learned.

        Returns
        -------
        ndarray of shape (n_rows,) or (n_rows, n_outputs)
            In the order of the request. A classifier returns one score a class, as the targets of
            its regression: -1 and 1 are certain.

        Raises
        ------
        NotFittedError
            If there is no model.
        ValueError
            As `forget`.
        TypeError
            If `indices` is neither a mask nor indices.
        """
        request = self._request(indices, X, y, sample_weight)
        if request is None:
            return self._public(np.empty((0, self._solution.coef.shape[1])))
        rows, positions, _ = request
        return self._public(self._solution.labels(self._features_of_kept(), rows, positions))

    def transform(self, X):
        """Features of rows, without the constant one.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
        """
        X = self._validated(X)
        engine = make_engine(self.device)
        return engine.to_numpy(self._transform(engine, X, constant=False))

    def __getstate__(self):
        if "_solution" in vars(self):
            self._settle()  # nothing that was forgotten goes into a file
        return super().__getstate__()

    def __copy__(self):
        # Forgetting overwrites memory, which two models must not share.
        return copy.deepcopy(self)

    def __sklearn_is_fitted__(self):
        return "_solution" in vars(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.required = True
        return tags

    @property
    def _n_features_out(self):
        return np.shape(self.coef_)[-1]

    def _fit_rows(self, X, Y, weights):
        """Draw the features and fit to the rows of positive weight."""
        kept = weights > 0
        rows = TrainingRows(X, Y, weights)[kept]
        self.random_weights_ = self.feature_map_ = None
        if self.feature_map is None:
            gamma = 1.0 / X.shape[1] if self.gamma == "auto" else self.gamma
            rng = local_random_state(self.random_state)
            self.random_weights_ = draw_frequencies(rng, X.shape[1], self.n_components, gamma)
        elif self.feature_map != "identity":
            self.feature_map_ = _fitted(self.feature_map, X)
        first = self._transform(make_engine(self.device), rows.X[:1], constant=False)
        self._n_columns = first.shape[1] + bool(self.fit_intercept)
        solver = preferred_solver(self.solver, len(rows), self._n_columns)
        kind = what_to_keep(self.store, solver, len(rows), self._n_columns)
        self._keeps_features = kind == "features"
        rows = self._as_kept(rows)
        features = self._features_of_kept()
        solution = fit_solution(features, rows, solver=self.solver, alpha=self.alpha)
        warn_if_imprecise(solution, len(rows), alpha=self.alpha, stacklevel=5)
        stored, mask = (rows, kept) if kind else (None, None)
        self._commit(solution, stored, rows, 1, retained_=mask, n_retained_=len(rows))
        self.refitted_ = False

    def _learn_rows(self, added, kept, before, rows):
        """Learn rows, given a solution and rows with columns for all of their targets."""
        mask = None if rows is None else np.concatenate((self.retained_, kept))
        if len(added) == 0:
            self.retained_ = mask
            return
        added = self._as_kept(added)
        features = self._features_of_kept()
        extended = None if rows is None else rows.extended(added)

        def update():
            return before.learn(features, added, rows)

        solution, n_rows = self._changed(
            before, update, features, added, extended and (lambda: extended), 1.0, stacklevel=5
        )
        self._commit(solution, extended, added, 1, retained_=mask, n_retained_=n_rows)

    def _changed(self, solution, update, features, changed, rows, sign, *, stacklevel):
        n_rows = self.n_retained_ + int(sign) * len(changed)
        solution = changed_solution(
            solution,
            update,
            features,
            changed,
            rows,
            sign,
            n_rows=n_rows,
            solver=self.solver,
            alpha=self.alpha,
            refresh=self.refresh_fraction,
        )
        warn_if_imprecise(solution, n_rows, alpha=self.alpha, stacklevel=stacklevel)
        return solution, n_rows

    def _commit(self, solution, rows, changed, sign, **attributes):
        """Replace the model, when nothing can fail any more."""
        coef = self._public(solution.coef).T
        width = coef.shape[-1] - self.fit_intercept
        intercept = coef[..., width] if self.fit_intercept else np.zeros(coef.shape[:-1])
        if solution.name == "dual":
            attributes["dual_coef_"] = self._public(solution.alpha)
        else:
            vars(self).pop("dual_coef_", None)
        vars(self).update(
            attributes,
            _solution=solution,
            _rows=rows,
            coef_=coef[..., :width],
            intercept_=float(intercept) if intercept.ndim == 0 else intercept,
            solver_=solution.name,
            refitted_=solution.n_changed == 0,
        )

    def _settle(self):
        """Make up for lazy requests, in the memory of the solution's matrices."""
        if self._solution.is_settled:
            return
        solution = vars(self).pop("_solution")
        self._solution = solution.settled(make_engine(self.device))

    def _request(self, indices, X, y, sample_weight):
        """Rows that a call names, their positions among the stored ones, and the mask after it."""
        check_is_fitted(self)
        self._settle()
        if (indices is None) == (X is None) or (X is None) != (y is None):
            raise ValueError("give either indices, or both X and y.")
        if X is not None:
            if self._rows is not None:
                raise ValueError(
                    "X and y are for models that keep no rows; this one has them: give indices."
                )
            return self._given(X, y, sample_weight)[0], None, None
        if self._rows is None:
            raise ValueError(
                "indices are for models that keep their rows; give X and y, or fit with store=True."
            )
        if sample_weight is not None:
            raise ValueError("sample_weight goes with X and y; indices know their weights.")
        if is_empty_request(indices):
            return None
        positions, mask = locate(indices, self.retained_)
        return self._rows[positions], positions, mask

    def _given(self, X, y, sample_weight):
        """Validate rows given after `fit`; drop those of weight zero, and say which are left."""
        check_is_fitted(self)
        X, Y = self._targets(X, y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        kept = weights > 0
        return TrainingRows(X, Y, weights)[kept], kept

    def _values(self, X):
        """Return the outputs for rows, (n, k) with the columns of the solution."""
        X = self._validated(X)
        return self._features().values(X, self._solution.coef)

    def _validated(self, X):
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, order="C", reset=False)
        return checked_magnitude(X)

    def _features(self):
        engine = make_engine(self.device)
        transform = partial(self._transform, engine, constant=bool(self.fit_intercept))
        return RowFeatures(engine, transform, self._n_columns)

    def _as_kept(self, rows):
        """Return rows as the solution sees them: themselves, or their features."""
        if not self._keeps_features:
            return rows
        features = self._features()
        return replace(rows, X=features.engine.to_numpy(features.matrix(rows.X)))

    def _features_of_kept(self):
        """Return the feature map for rows that went through :meth:`_as_kept`."""
        features = self._features()
        if not self._keeps_features:
            return features
        return KeptFeatures(features.engine, features.engine.asarray, features.n_columns)

    def _transform(self, engine, X, *, constant):
        """Features of rows on an engine."""
        if self.random_weights_ is not None:
            return engine.fourier_features(X, self.random_weights_, constant=constant)
        Z = X if self.feature_map_ is None else self.feature_map_.transform(X)
        Z = engine.asarray(Z.toarray() if sp.issparse(Z) else np.asarray(Z))
        return engine.with_ones(Z) if constant else Z


def checked_magnitude(X):
    """Refuse rows whose products overflow; return the others."""
    check_magnitude(X.data if sp.issparse(X) else X, name="X")
    return X


def _fitted(feature_map, X):
    """Return the map itself if it is fitted, else a clone fitted to X."""
    try:
        check_is_fitted(feature_map)
    except NotFittedError:
        return clone(feature_map).fit(X)
    return feature_map
