r"""Probabilities of missing categories.

The Gaussian model treats the indicators of a categorical feature as numbers, which is enough to
predict other features but gives no probabilities. Each categorical feature therefore has a
multinomial logistic regression on the conditional means of all other columns, given the observed
entries of a sample except the feature itself,

.. math:: P(c \mid x_o) \propto \exp(w_c^T z_{-f} + b_c), \qquad
    z_{-f} = E[x_{-f} \mid x_{o \setminus f}] .

It is fitted to samples in which the feature is observed. For a sample in which it is missing, the
conditional means are those of the imputation.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression

from ..utils._typing import BoolArray, FloatArray, IntArray
from ._model_columns import Category, ModelColumns
from .gaussian import GaussianEngine, GaussianImputation

_MAX_SAMPLES = 3_000
_PENALTIES = (0.01, 0.1, 1.0, 10.0)  # values of C
_HELD_OUT = 4  # every fourth sample chooses the penalty


class CategoryModel(NamedTuple):
    """The logistic regression of a categorical feature.

    Attributes
    ----------
    category : Category
    coef : ndarray of shape (n_levels, n_columns)
        Coefficients of feature and label columns; 0 for those of the feature itself.
    intercept : ndarray of shape (n_levels,)
        Intercepts, minus infinity for a level that did not occur in the fit.
    n_samples : int
        Number of samples of the fit.
    """

    category: Category
    coef: FloatArray
    intercept: FloatArray
    n_samples: int

    def probabilities(self, Z: FloatArray) -> FloatArray:
        """Return the probabilities of all categories, each of them positive.

        Parameters
        ----------
        Z : ndarray of shape (n, n_columns)
            Conditional means of feature and label columns.

        Returns
        -------
        ndarray of shape (n, n_categories)
        """
        scores = Z @ self.coef.T + self.intercept
        scores -= scores.max(axis=1, keepdims=True, initial=-np.inf)
        P = np.exp(scores)
        P /= P.sum(axis=1, keepdims=True)
        # One more sample, drawn from the marginal distribution, keeps probabilities positive.
        P = (self.n_samples * P + self.category.prior) / (self.n_samples + 1.0)
        return self.category.probabilities(P)


def fit_category_models(
    imputation: GaussianImputation,
    samples: FloatArray,
    labels: FloatArray,
    columns: ModelColumns,
    X: FloatArray,
    rng: np.random.RandomState,
    engine: GaussianEngine,
    after_feature: Callable[[], object] = bool,
) -> list[CategoryModel]:
    """Fit a logistic regression for every categorical feature.

    Parameters
    ----------
    imputation : GaussianImputation
    samples : ndarray of shape (n, d)
        Training samples in model columns.
    labels : ndarray of shape (n, q)
        Label columns.
    columns : ModelColumns
    X : ndarray of shape (n, n_features)
        Training samples as given; NaN for missing values.
    rng : RandomState
        Draws the samples of each fit.
    engine : GaussianEngine
    after_feature : callable, default=bool
        Called after each feature.

    Returns
    -------
    list of CategoryModel
    """
    models = []
    for category in columns.categories:
        levels = category.level_of(X[:, category.feature])
        rows = rng.permutation(np.flatnonzero(levels >= 0))[:_MAX_SAMPLES]
        hidden = samples[rows]
        hidden[:, category.columns] = np.nan
        Z = imputation.complete(hidden, labels[rows], engine=engine).columns
        used = np.ones(Z.shape[1], dtype=bool)
        used[category.columns] = False
        models.append(_fit(category, Z, levels[rows], used))
        after_feature()
    return models


def _fit(category: Category, Z: FloatArray, levels: IntArray, used: BoolArray) -> CategoryModel:
    coef = np.zeros((len(category.prior), Z.shape[1]))
    intercept = np.log(category.prior)
    n = len(levels)
    held_out = np.arange(n) % _HELD_OUT == 0
    if not used.any() or len(np.unique(levels[~held_out])) < 2:
        return CategoryModel(category, coef, intercept, n)
    losses = []
    for C in _PENALTIES:
        trial = _regression(category, Z[~held_out], levels[~held_out], used, C)
        P = trial.probabilities(Z[held_out])[:, _representatives(category)]
        losses.append(-np.log(P[np.arange(len(P)), levels[held_out]]).mean())
    return _regression(category, Z, levels, used, _PENALTIES[int(np.argmin(losses))])


def _representatives(category: Category) -> IntArray:
    """Return one value of each level."""
    first: IntArray = np.unique(category.levels, return_index=True)[1]
    return first


def _regression(
    category: Category, Z: FloatArray, levels: IntArray, used: BoolArray, C: float
) -> CategoryModel:
    machine = LogisticRegression(C=C, max_iter=200, tol=1e-3).fit(Z[:, used], levels)
    n_levels = len(category.prior)
    coef = np.zeros((n_levels, Z.shape[1]))
    intercept = np.full(n_levels, -np.inf)
    found = machine.classes_
    if len(found) == 2:
        coef[found[1], used] = machine.coef_[0]
        intercept[found] = 0.0, machine.intercept_[0]
    else:
        coef[np.ix_(found, used)] = machine.coef_
        intercept[found] = machine.intercept_
    return CategoryModel(category, coef, intercept, len(Z))
