"""Separation of in-distribution (ID) from out-of-distribution (OOD) samples by scores."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import false_discovery_control
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, validate_params

from ..utils._typing import BoolArray, FloatArray
from ..utils._warnings import warn_caller
from ._report import BaseReport

_SWAPPED = 0.3  # an AUROC below this value is far from chance, in the wrong direction


@validate_params(
    {
        "y_true": ["array-like"],
        "y_score": ["array-like"],
        "pos_label": "no_validation",
        "tpr": [Interval(Real, 0, 1, closed="right")],
    },
    prefer_skip_nested_validation=True,
)
def fpr_at_tpr_score(
    y_true: ArrayLike, y_score: ArrayLike, *, pos_label: Any, tpr: float = 0.95
) -> float:
    """Fraction of negatives accepted by the strictest threshold that accepts enough positives.

    "FPR95" means one of two numbers in the literature: some papers take in-distribution samples
    as the positive class, others out-of-distribution samples, and the two are not comparable. The
    positive class therefore has no default.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels; those equal to `pos_label` are positive, all others negative.
    y_score : array-like of shape (n_samples,)
        Scores, higher for positives. Samples at or above the threshold are accepted.
    pos_label : int, float, bool or str
        Label of the positive class.
    tpr : float in (0, 1], default=0.95
        Fraction of positives to accept.

    Returns
    -------
    float
        False positive rate; lower is better.

    Raises
    ------
    ValueError
        If there are no positives or no negatives, or a score is not finite.

    See Also
    --------
    ood_report : Both conventions and more, for scores of two groups.

    Examples
    --------
    >>> from sklearn_ext.metrics import fpr_at_tpr_score
    >>> inlier = [1, 1, 1, 1, -1, -1]
    >>> score = [0.9, 0.8, 0.7, 0.2, 0.3, 0.1]
    >>> fpr_at_tpr_score(inlier, score, pos_label=1)
    0.5
    >>> fpr_at_tpr_score(inlier, score, pos_label=1, tpr=0.75)
    0.0
    """
    labels, scores = column_or_1d(y_true), column_or_1d(y_score)
    check_consistent_length(labels, scores)
    positive = labels == pos_label
    if positive.all() or not positive.any():
        raise ValueError(
            f"y_true must contain positives and negatives; {positive.sum()} of {len(labels)} "
            f"labels equal pos_label={pos_label!r}."
        )
    false_rates, true_rates, _ = roc_curve(positive, scores, drop_intermediate=False)
    return float(false_rates[np.argmax(true_rates >= tpr)])


@validate_params(
    {
        "p_values": ["array-like"],
        "fdr": [Interval(Real, 0, 1, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def select_outliers(p_values: ArrayLike, *, fdr: float = 0.05) -> BoolArray:
    """Select outliers of a batch so that few of the selected are inliers.

    This is the Benjamini-Hochberg procedure [1]_: among the selected samples, the expected fraction
    of inliers is at most `fdr`. Conformal p-values, which share their held-out samples, depend on
    each other in a way that the procedure allows [2]_.

    Parameters
    ----------
    p_values : array-like of shape (n_samples,)
        P-values, such as those of ``OrthLossOODDetector.predict_pvalue``.
    fdr : float in (0, 1), default=0.05
        Largest expected fraction of inliers among the selected samples.

    Returns
    -------
    bool ndarray of shape (n_samples,)
        True for samples selected as outliers.

    Raises
    ------
    ValueError
        If a p-value is not between 0 and 1.

    See Also
    --------
    ood_report : Scores of a detector on labeled samples.

    References
    ----------
    .. [1] Y. Benjamini, Y. Hochberg, "Controlling the False Discovery Rate: A Practical and
       Powerful Approach to Multiple Testing", JRSS B 57, 1995.
    .. [2] S. Bates, E. Candès, L. Lei, Y. Romano, M. Sesia, "Testing for Outliers with Conformal
       p-values", Annals of Statistics 51, 2023, arXiv:2104.08279.

    Examples
    --------
    >>> from sklearn_ext.metrics import select_outliers
    >>> select_outliers([0.001, 0.8, 0.03, 0.01], fdr=0.05)
    array([ True, False,  True,  True])
    """
    p = column_or_1d(p_values)
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        raise ValueError(f"p_values must be between 0 and 1, got {p[wrong][0]!r}.")
    return false_discovery_control(p) <= fdr


class OODReport(BaseReport):
    """Scores of a detector on sets of outliers: the result of :func:`ood_report`.

    Parameters
    ----------
    scores : dict of str to dict of str to float
        Scores by the name of the set of out-of-distribution (OOD) samples. All except the counts
        are in [0, 1]:

        - ``fpr_id_positive``: fraction of the OOD samples that are accepted by a threshold that
          accepts a fraction `tpr` of the in-distribution (ID) samples;
        - ``fpr_ood_positive``: fraction of the ID samples that are flagged by a threshold that
          flags a fraction `tpr` of the OOD samples;
        - ``auroc``: probability that a random ID sample scores above a random OOD sample, which
          is the same in both conventions;
        - ``aupr_id``, ``aupr_ood``: average precision with ID (OOD) samples as positives. A
          useless ranking scores the fraction of positives, so compare it only for equal values of
          ``ood_fraction``;
        - ``ood_fraction``: fraction of OOD samples among all;
        - ``n_id``, ``n_ood``: numbers of samples.
    tpr : float
        True positive rate at which false positive rates are taken.

    See Also
    --------
    sklearn_ext.OODScoreDisplay : Histograms of the scores.

    Examples
    --------
    >>> from sklearn_ext.metrics import ood_report
    >>> report = ood_report([3.0, 2.0, 1.5], {"near": [1.6, 0.0], "far": [-1.0]})
    >>> report.scores["far"]["auroc"]
    1.0
    >>> round(report.average["auroc"], 3)
    0.917
    """

    def __init__(self, scores: Mapping[str, Mapping[str, float]], tpr: float = 0.95) -> None:
        super().__init__(scores)
        self.tpr = tpr
        level = f"{100 * tpr:.3g}"
        self._columns = {
            "fpr_id_positive": (f"FPR{level} (ID positive)", ".1%"),
            "fpr_ood_positive": (f"FPR{level} (OOD positive)", ".1%"),
            "auroc": ("AUROC", ".1%"),
            "aupr_id": ("AUPR (ID)", ".1%"),
            "aupr_ood": ("AUPR (OOD)", ".1%"),
            "ood_fraction": ("OOD fraction", ".1%"),
            "n_id": ("n ID", ".0f"),
            "n_ood": ("n OOD", ".0f"),
        }

    @property
    def average(self) -> dict[str, float]:
        """Unweighted averages of the scores over the sets."""
        rows = list(self.scores.values())
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _rows(self) -> dict[str, dict[str, float]]:
        return self.scores | ({"average": self.average} if len(self.scores) > 1 else {})


@validate_params(
    {
        "s_id": "no_validation",
        "s_ood": "no_validation",
        "tpr": [Interval(Real, 0, 1, closed="right")],
    },
    prefer_skip_nested_validation=True,
)
def ood_report(
    s_id: ArrayLike, s_ood: ArrayLike | Mapping[str, ArrayLike], *, tpr: float = 0.95
) -> OODReport:
    """Compare the scores of in-distribution (ID) and out-of-distribution (OOD) samples.

    Scores are higher for ID samples, like ``score_samples`` and ``decision_function`` of
    scikit-learn's outlier detectors. Negate the scores of libraries in which outliers score higher.

    Parameters
    ----------
    s_id : array-like of shape (n_id,)
        Scores of ID samples that the detector was not fitted on.
    s_ood : array-like of shape (n_ood,) or dict of str to array-like
        Scores of OOD samples, or of several sets of them by name. An average over sets hides how
        hard the nearest set is, so the report has both.
    tpr : float in (0, 1], default=0.95
        True positive rate at which false positive rates are taken: 0.95 gives "FPR95" in both
        conventions.

    Returns
    -------
    OODReport
        Scores of each set in ``scores``, and their averages in ``average``.

    Raises
    ------
    ValueError
        If a set is empty, or a score is not finite.
    TypeError
        If `s_id` is a dict, as when the arguments are swapped.

    Warns
    -----
    UserWarning
        If the ID samples score below the samples of every OOD set, as when the arguments are
        swapped or the scores are higher for outliers.

    See Also
    --------
    fpr_at_tpr_score : The false positive rate alone.
    sklearn_ext.OODScoreDisplay : Histograms of the same scores.

    Examples
    --------
    >>> from sklearn_ext.metrics import ood_report
    >>> report = ood_report([3.0, 2.0, 1.5, 1.0], [1.2, 0.0])
    >>> [report.scores["OOD"][name] for name in ("auroc", "fpr_id_positive", "fpr_ood_positive")]
    [0.875, 0.5, 0.25]
    """
    if isinstance(s_id, Mapping):
        raise TypeError(
            "s_id must be an array of the scores of ID samples, got a dict. Sets of OOD scores are "
            "the second argument: ood_report(s_id, s_ood)."
        )
    id_scores = _finite_scores(s_id, "s_id")
    if isinstance(s_ood, Mapping):
        named = {str(name): _finite_scores(s, f"s_ood[{name!r}]") for name, s in s_ood.items()}
        if not named:
            raise ValueError("s_ood must name at least one set of scores, got an empty dict.")
    else:
        named = {"OOD": _finite_scores(s_ood, "s_ood")}
    report = OODReport(
        {name: _compare(id_scores, scores, tpr) for name, scores in named.items()}, tpr
    )
    if all(found["auroc"] < _SWAPPED for found in report.scores.values()):
        warn_caller(
            f"ID samples score below OOD samples: the AUROC is {report.average['auroc']:.3f}. "
            "Scores must be higher for ID samples, and s_id is the first argument of ood_report."
        )
    return report


def _compare(s_id: FloatArray, s_ood: FloatArray, tpr: float) -> dict[str, float]:
    is_id = np.repeat([True, False], [len(s_id), len(s_ood)])
    scores = np.concatenate([s_id, s_ood])
    return {
        "fpr_id_positive": fpr_at_tpr_score(is_id, scores, pos_label=True, tpr=tpr),
        "fpr_ood_positive": fpr_at_tpr_score(~is_id, -scores, pos_label=True, tpr=tpr),
        "auroc": float(roc_auc_score(is_id, scores)),
        "aupr_id": float(average_precision_score(is_id, scores)),
        "aupr_ood": float(average_precision_score(~is_id, -scores)),
        "ood_fraction": len(s_ood) / len(scores),
        "n_id": len(s_id),
        "n_ood": len(s_ood),
    }


def _finite_scores(given: ArrayLike, name: str) -> FloatArray:
    scores = np.asarray(given, dtype=np.float64)
    if scores.ndim != 1 and scores.shape[1:] != (1,):
        raise ValueError(f"{name} must have one score per sample, got shape {scores.shape}.")
    scores = scores.ravel()
    if len(scores) == 0:
        raise ValueError(f"{name} must contain at least one score, got none.")
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity.")
    return scores
