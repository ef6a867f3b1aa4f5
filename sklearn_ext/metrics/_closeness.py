"""Distance of a model from a reference model."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

_SMALLEST = 1e-12


def mean_kl_divergence(proba_reference: ArrayLike, proba: ArrayLike) -> float:
    r"""Mean Kullback-Leibler divergence of probabilities from reference probabilities.

    .. math:: \frac{1}{n} \sum_i \sum_c r_{ic} \log \frac{r_{ic}}{p_{ic}}

    Parameters
    ----------
    proba_reference : array-like of shape (n_samples, n_classes)
        Reference probabilities r.
    proba : array-like of shape (n_samples, n_classes)
        Probabilities p. Both r and p are clipped from below at 1e-12.

    Returns
    -------
    float
        Mean over the samples, in nats; 0 if the probabilities agree.

    Raises
    ------
    ValueError
        If the arrays differ in shape or are empty.

    Examples
    --------
    >>> from sklearn_ext.metrics import mean_kl_divergence
    >>> round(mean_kl_divergence([[0.5, 0.5]], [[0.25, 0.75]]), 3)
    0.144
    """
    r, p = np.asarray(proba_reference, dtype=np.float64), np.asarray(proba, dtype=np.float64)
    if r.shape != p.shape or r.ndim != 2 or len(r) == 0:
        raise ValueError(
            f"proba must be a nonempty matrix of the shape of proba_reference, {r.shape}, "
            f"got shape {p.shape}."
        )
    r, p = r.clip(_SMALLEST), p.clip(_SMALLEST)
    return float((r * np.log(r / p)).sum(axis=1).mean())


def unlearning_gap(
    metrics: Mapping[str, float],
    reference: Mapping[str, float],
    names: Sequence[str] = ("FA", "RA", "TA", "MIA"),
) -> float:
    """Mean absolute difference of a model's metrics from those of the retrained model.

    Parameters
    ----------
    metrics : mapping of str to float
        Metrics of the model.
    reference : mapping of str to float
        Metrics of the retrained model.
    names : sequence of str, default=("FA", "RA", "TA", "MIA")
        Metrics to average. Papers differ in this choice; print the metrics beside the gap.

    Returns
    -------
    float
        In the units of the metrics; 0 is best.

    Examples
    --------
    >>> from sklearn_ext.metrics import unlearning_gap
    >>> unlearning_gap(
    ...     {"FA": 4.0, "RA": 99.0, "TA": 90.0, "MIA": 50.0},
    ...     {"FA": 0.0, "RA": 99.0, "TA": 92.0, "MIA": 48.0},
    ... )
    2.0
    """
    return float(np.mean([abs(metrics[name] - reference[name]) for name in names]))
