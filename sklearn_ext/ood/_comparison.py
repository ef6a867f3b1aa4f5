"""Rows beside their regenerations: the disparities that a detector has chosen."""

from dataclasses import dataclass
from typing import Any

from ._disparities import (
    feature_disparity,
    pixel_disparity,
    probability_disparity,
    remove_anomalies,
)
from ._path_scale import PathScale

TERMS = ("pixel", "feature", "probability")


@dataclass(frozen=True)
class Comparison:
    """Measures disparities, averaged over regenerations.

    Attributes
    ----------
    scale : PathScale
        Its units are those of the pixel disparity.
    reading : NetOutputs, ProbabilityOutputs or None
        What the classifier thinks of rows.
    feature_metric, probability_metric : str
    sides : str
        Of the anomaly removal.
    clip_value : float
    """

    scale: PathScale
    reading: Any
    feature_metric: str
    probability_metric: str
    sides: str
    clip_value: float

    def disparities(self, X, X_hat, terms):
        """Return the mean disparities of rows.

        Parameters
        ----------
        X : float32 ndarray of shape (n, ...)
        X_hat : float32 ndarray of shape (n_repeats, n, ...)
        terms : tuple of str
            Out of "pixel", "feature" and "probability", as far as the reading has them.

        Returns
        -------
        dict of str to ndarray of shape (n,)
        """
        leading = X_hat.shape[:2]
        values = {}
        if "pixel" in terms:
            x = self.scale.to_path(X).reshape(len(X), -1)
            values["pixel"] = pixel_disparity(x, self.scale.to_path(X_hat).reshape(*leading, -1))
        if set(terms) - {"pixel"}:
            seen = self.reading.compute(X)
            seen_hat = self.reading.compute(X_hat.reshape(-1, *X.shape[1:])).reshape(*leading, -1)
            if self.reading.has_features:
                seen, seen_hat = remove_anomalies(seen, seen_hat, self.clip_value, self.sides)
        if "feature" in terms:
            values["feature"] = feature_disparity(seen, seen_hat, self.feature_metric)
        if "probability" in terms:
            logits, logits_hat = self.reading.logits(seen), self.reading.logits(seen_hat)
            values["probability"] = probability_disparity(
                logits, logits_hat, self.probability_metric
            )
        return {term: values[term].mean(axis=0) for term in terms}


def available_terms(reading):
    """Return the disparities that a reading allows."""
    if reading is None:
        return ("pixel",)
    return TERMS if reading.has_features else ("pixel", "probability")


def chosen_terms(disparity, reading):
    """Return the disparities that the parameter of a detector means.

    Raises
    ------
    ValueError
        If it is not made of terms, or if the reading does not allow one of them.
    """
    available = available_terms(reading)
    if isinstance(disparity, str):
        disparity = available[:2] if disparity == "auto" else (disparity,)
    terms = tuple(disparity)
    if not terms or len(set(terms)) < len(terms) or not set(terms) <= set(TERMS):
        raise ValueError(f"disparity must be 'auto' or some of {TERMS}, got {disparity!r}.")
    if missing := [term for term in terms if term not in available]:
        raise ValueError(
            f"disparity={disparity!r} cannot be: {' and '.join(missing)} disparities need a "
            "classifier (features a skorch.NeuralNetClassifier, probabilities any), and here "
            f"only {available} are available."
        )
    return terms
