"""The kinds of steps of a pipeline, by how they depend on samples and forget them."""

from typing import Any, Literal

import numpy as np
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.utils import _safe_indexing, get_tags
from sklearn.utils.validation import has_fit_parameter

from ...utils._typing import Array, FloatArray
from .preprocessing import ForgettingOneHotEncoder, ForgettingScaler

Kind = Literal["fixed", "forgetting", "learned"]
_QUANTILES = {
    "KBinsDiscretizer",
    "QuantileTransformer",
    "RobustScaler",
    "SplineTransformer",
}
# A fit of these learns the number of features only, and may draw random numbers.
_OF_SHAPE = {
    "GaussianRandomProjection",
    "PolynomialCountSketch",
    "PolynomialFeatures",
    "RBFSampler",
    "SkewedChi2Sampler",
    "SparseRandomProjection",
}


def kind_of(step: Any) -> Kind:
    """Return how a step depends on the samples that it is fitted to.

    Parameters
    ----------
    step : transformer or "passthrough"
        A step before the last one.

    Returns
    -------
    {"fixed", "forgetting", "learned"}
        "fixed" steps do not depend on samples: they are frozen, need no fit, or learn the number of
        features only. "forgetting" steps have the methods `forget` and `learn`, or consist of such
        steps. All others are "learned".
    """
    if step is None or isinstance(step, (str, FrozenEstimator)):
        return "fixed"
    if isinstance(step, (ColumnTransformer, Pipeline, FeatureUnion)):
        kinds = set(map(kind_of, _members(step)))
        # A ColumnTransformer needs a fit even if all its members are fixed.
        fixed = "forgetting" if isinstance(step, ColumnTransformer) else "fixed"
        return "learned" if "learned" in kinds else "forgetting" if "forgetting" in kinds else fixed
    if hasattr(step, "forget") and hasattr(step, "learn"):
        return "forgetting"
    if type(step).__name__ in _OF_SHAPE and type(step).__module__.startswith("sklearn."):
        given = step.get_params()
        asks_samples = given.get("gamma") == "scale" or given.get("n_components") == "auto"
        return "learned" if asks_samples else "fixed"
    return "learned" if get_tags(step).requires_fit else "fixed"


def why_it_cannot_forget(name: str, step: Any) -> str:
    """Return the message for a learned step without pinned samples."""
    part = _learned_part(step)
    reason = (
        "its quantiles are not functions of sums, so they cannot be updated"
        if type(part).__name__ in _QUANTILES or getattr(part, "strategy", None) == "median"
        else "it learns from samples and has no method to forget them"
    )
    where = "" if part is step else f" contains a {type(part).__name__}, which"
    return (
        f"The step {name!r} ({type(step).__name__}){where} cannot forget: {reason}. Fit it to "
        "samples that nobody may delete (pinned=mask in fit, or pinned_fraction=0.2), freeze it "
        "with FrozenEstimator if it was fitted to other data, or use ForgettingScaler, "
        "ForgettingImputer or ForgettingOneHotEncoder."
    )


def _members(step: Any) -> list[Any]:
    """Return the transformers of which a step consists."""
    if isinstance(step, ColumnTransformer):
        return [*(part for _, part, _ in step.transformers), step.remainder]
    steps = step.steps if isinstance(step, Pipeline) else step.transformer_list
    return [part for _, part in steps]


def _learned_part(step: Any) -> Any:
    """Return the first transformer inside a learned step that is learned itself."""
    if isinstance(step, (ColumnTransformer, Pipeline, FeatureUnion)):
        return _learned_part(next(part for part in _members(step) if kind_of(part) == "learned"))
    return step


def seeded(step: Any, seed: int) -> Any:
    """Return a clone of a step that has a seed wherever it had none; frozen steps stay."""
    if step is None or isinstance(step, (str, FrozenEstimator)):
        return step
    step = clone(step)
    given = step.get_params()
    names = [name for name in given if name == "random_state" or name.endswith("__random_state")]
    return step.set_params(**{name: seed for name in names if given[name] is None})


def fitted_step(step: Any, X: Any, y: Array, weights: FloatArray) -> Any:
    """Return a clone of a step that is fitted to samples; fixed steps are returned unchanged."""
    if step is None or isinstance(step, str):
        return "passthrough"
    if isinstance(step, FrozenEstimator):
        return step
    if has_fit_parameter(step, "sample_weight"):
        return clone(step).fit(X, y, sample_weight=weights)
    fitted = clone(step).fit(X, y)
    if isinstance(step, ColumnTransformer) and (weights != 1.0).any():
        for part, columns in _parts(fitted):
            if has_fit_parameter(part, "sample_weight"):
                part.fit(_safe_indexing(X, columns, axis=1), y, sample_weight=weights)
    return fitted


def transformed(step: Any, X: Any) -> Any:
    """Return the output of a fitted step."""
    return X if isinstance(step, str) else step.transform(X)


def can_update(step: Any) -> bool:
    """Return whether a forgetting step can be updated from the changed samples alone.

    In a nested pipeline, a change of the first step changes the input of the second for all
    samples.
    """
    if isinstance(step, ColumnTransformer):
        return not any(isinstance(part, (Pipeline, FeatureUnion)) for part in _members(step))
    return not isinstance(step, (Pipeline, FeatureUnion))


def change_step(step: Any, X: Any, weights: FloatArray, verb: Literal["forget", "learn"]) -> bool:
    """Make a fitted step forget or learn samples; return whether its output may change."""
    parts = _parts(step)
    before = [_statistics(part) for part, _ in parts]
    for part, columns in parts:
        given = X if columns is None else _safe_indexing(X, columns, axis=1)
        extra = {"sample_weight": weights} if has_fit_parameter(part, "sample_weight") else {}
        getattr(part, verb)(given, **extra)
    after = [_statistics(part) for part, _ in parts]
    return not all(map(_equal, before, after))


def affine_change(before: Any, after: Any) -> tuple[FloatArray, FloatArray] | None:
    """Return how the output z of a step has changed after a request.

    Returns
    -------
    scale, shift : ndarray of shape (n_features_out,)
        The output is now ``scale * z + shift``. None if it has changed in another way.
    """
    if isinstance(after, ForgettingScaler):
        shift = (before._center() - after._center()) / after.scale_
        return before.scale_ / after.scale_, shift
    if isinstance(after, ForgettingOneHotEncoder):
        if not _equal(before.categories_, after.categories_):
            return None
        return _unchanged(sum(map(len, after.categories_)))
    if not isinstance(after, ColumnTransformer):
        return None
    changes = []
    for (name, old, _), (_, new, _) in zip(before.transformers_, after.transformers_, strict=True):
        place = after.output_indices_[name]
        if place.start == place.stop:
            continue  # no columns
        is_fixed = old is new or kind_of(new) == "fixed"
        changes.append(
            _unchanged(place.stop - place.start) if is_fixed else affine_change(old, new)
        )
    if None in changes:
        return None
    scales, shifts = zip(*filter(None, changes), strict=True)
    return np.concatenate(scales), np.concatenate(shifts)


def _unchanged(width: int) -> tuple[FloatArray, FloatArray]:
    return np.ones(width), np.zeros(width)


def _parts(step: Any) -> list[tuple[Any, Any]]:
    """Return the parts of a step that forget, with the columns that they see."""
    if isinstance(step, ColumnTransformer):
        return [
            (part, columns)
            for _, part, columns in step.transformers_
            if hasattr(part, "forget") and hasattr(part, "learn")
        ]
    if isinstance(step, str):
        return []
    return [(step, None)] if hasattr(step, "forget") and hasattr(step, "learn") else []


def _statistics(part: Any) -> list[Any]:
    """Return the public fitted attributes on which the output depends: all but counts."""
    return [
        value
        for name, value in sorted(vars(part).items())
        if name.endswith("_") and not name.startswith(("_", "n_", "counts_"))
    ]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return bool(np.array_equal(a, b))
