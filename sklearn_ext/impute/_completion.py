"""Complete a table: by means and most probable categories, by draws, or by indicators."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..utils._typing import FloatArray
from ._category_models import CategoryModel
from ._model_columns import ModelColumns
from ._validation import truncate
from .gaussian import GaussianEngine, GaussianImputation
from .published import TwoStageImputation


class TableModel(NamedTuple):
    """A fitted model of a table.

    Attributes
    ----------
    columns : ModelColumns
        Conversion between features and model columns.
    imputation : GaussianImputation or TwoStageImputation
        Model of the columns.
    categories : list of CategoryModel
        Models of the categorical features, in the order in which they are drawn.
    is_two_stage : bool
        Whether training samples were completed by the two-stage method.
    """

    columns: ModelColumns
    imputation: GaussianImputation | TwoStageImputation
    categories: list[CategoryModel]
    is_two_stage: bool


class CompletedTable(NamedTuple):
    """Samples completed in model columns.

    Attributes
    ----------
    Z, V : ndarray of shape (n, d)
        Conditional means, or draws, and variances. Variances are NaN without a conditional
        distribution.
    codes, probabilities : dict of int to ndarray
        Chosen values for the missing entries of each categorical feature, and the probabilities of
        all values.
    """

    Z: FloatArray
    V: FloatArray
    codes: dict[int, FloatArray]
    probabilities: dict[int, FloatArray]


def complete_by_means(
    model: TableModel, raw: FloatArray, labels: FloatArray | None, engine: GaussianEngine
) -> CompletedTable:
    """Complete samples by conditional means and most probable categories.

    Parameters
    ----------
    model : TableModel
    raw : ndarray of shape (n, n_features)
        Samples as given; NaN for missing values.
    labels : ndarray of shape (n, q) or None
        Label columns.
    engine : GaussianEngine

    Returns
    -------
    CompletedTable
    """
    columns = model.columns
    samples = columns.encode(raw)
    if not isinstance(model.imputation, GaussianImputation):
        unit_samples = np.clip(columns.to_unit_interval(samples), 0.0, 1.0)
        completed = model.imputation.transform(unit_samples)
        return complete_by_indicators(columns, raw, columns.from_unit_interval(completed))
    done = model.imputation.complete(
        samples, labels, predict_labels=len(model.categories) > 0, engine=engine
    )
    Z = done.columns[:, : samples.shape[1]] + done.shift
    if model.is_two_stage:
        return complete_by_indicators(columns, raw, Z)
    codes, probabilities = {}, {}
    for category_model in model.categories:
        p = category_model.category.feature
        P = category_model.probabilities(done.columns[np.isnan(raw[:, p])])
        probabilities[p] = P
        codes[p] = category_model.category.values[P.argmax(axis=1)]
    return CompletedTable(Z, done.variances, codes, probabilities)


def complete_by_indicators(columns: ModelColumns, raw: FloatArray, Z: FloatArray) -> CompletedTable:
    """Complete categories by their indicators, without a conditional distribution."""
    codes = {}
    for category in columns.categories:
        at = np.isnan(raw[:, category.feature])
        P = columns.linear_probabilities(Z[at], category)
        codes[category.feature] = category.values[P.argmax(axis=1)]
    return CompletedTable(Z, np.full(Z.shape, np.nan), codes, {})


def complete_by_draws(
    model: TableModel,
    raw: FloatArray,
    labels: FloatArray | None,
    engine: GaussianEngine,
    rng: np.random.RandomState,
    limits: Sequence[FloatArray] | FloatArray | None,
) -> CompletedTable:
    """Draw categories one feature after the other, then numbers given all categories.

    Parameters
    ----------
    model, raw, labels, engine
        As for `complete_by_means`; the imputation must be a GaussianImputation.
    rng : RandomState
    limits : pair of ndarrays of shape (n_features,), or None
        Limits of a truncated Gaussian.

    Returns
    -------
    CompletedTable
    """
    columns, imputation = model.columns, model.imputation
    if not isinstance(imputation, GaussianImputation):
        raise TypeError(f"model.imputation must be Gaussian, got {type(imputation).__name__}.")
    noise = rng.standard_normal((len(raw), imputation.n_noise))
    uniform = rng.random_sample((len(raw), len(model.categories)))
    filled = raw.copy()
    codes, probabilities = {}, {}
    for k, category_model in enumerate(model.categories):
        category = category_model.category
        rows = np.isnan(raw[:, category.feature])
        done = imputation.complete(
            columns.encode(filled[rows]),
            None if labels is None else labels[rows],
            predict_labels=True,
            engine=engine,
        )
        P = category_model.probabilities(done.columns)
        drawn = (P.cumsum(axis=1) < uniform[rows, k, None]).sum(axis=1)
        values = category.values[np.minimum(drawn, P.shape[1] - 1)]
        filled[rows, category.feature] = values
        probabilities[category.feature], codes[category.feature] = P, values
    samples = columns.encode(filled)
    Z, V = imputation.transform(samples, labels, noise=noise, engine=engine)
    if limits is not None:
        means, _ = imputation.transform(samples, labels, engine=engine)
        low, high = columns.limits(*limits)
        Z = truncate(Z, means, np.sqrt(V), low, high)
    return CompletedTable(Z, V, codes, probabilities)
