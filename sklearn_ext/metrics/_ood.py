"""How well scores tell in-distribution (ID) from out-of-distribution (OOD) rows."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, validate_params


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
    """Share of negatives accepted by the strictest threshold that accepts enough positives.

    "FPR95" in papers is one of two numbers: some take in-distribution rows as the positive class,
    some out-of-distribution rows, and the two are not comparable. So the positive class has no
    default here.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels; those equal to `pos_label` are positive, all others negative.
    y_score : array-like of shape (n_samples,)
        Scores, higher for positives. Accepted are rows at or above the threshold.
    pos_label : int, float, bool or str
        Label of the positive class.
    tpr : float in (0, 1], default=0.95
        Share of positives to accept.

    Returns
    -------
    float
        False positive rate, lower is better.

    Raises
    ------
    ValueError
        If there are no positives or no negatives, or scores are not finite.

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
    y_true, y_score = column_or_1d(y_true), column_or_1d(y_score)
    check_consistent_length(y_true, y_score)
    positive = y_true == pos_label
    if positive.all() or not positive.any():
        raise ValueError(
            f"y_true must hold both positives and negatives; {positive.sum()} of {len(y_true)} "
            f"labels equal pos_label={pos_label!r}."
        )
    false_rates, true_rates, _ = roc_curve(positive, y_score, drop_intermediate=False)
    return float(false_rates[np.argmax(true_rates >= tpr)])


@dataclass(frozen=True)
class OODScores:
    """How well one set of OOD rows is told from the ID rows; all but the counts are in [0, 1].

    Parameters
    ----------
    fpr_id_positive : float
        Share of OOD rows accepted when `tpr` of the ID rows are.
    fpr_ood_positive : float
        Share of ID rows flagged when `tpr` of the OOD rows are.
    auroc : float
        Odds that a random ID row scores above a random OOD row; the same in both conventions.
    aupr_id, aupr_ood : float
        Average precision with ID (OOD) rows as positives. Useless rankings score the share of
        positives, so compare it at the same `ood_share` only.
    ood_share : float
        Share of OOD rows among all.
    n_id, n_ood : int
        Numbers of rows.

    Examples
    --------
    >>> from sklearn_ext.metrics import ood_report
    >>> scores = ood_report([2.0, 1.0], {"far": [0.0]}).sets["far"]
    >>> scores.aupr_ood, scores.n_id
    (1.0, 2)
    """

    fpr_id_positive: float
    fpr_ood_positive: float
    auroc: float
    aupr_id: float
    aupr_ood: float
    ood_share: float
    n_id: int
    n_ood: int


_METRICS = [field.name for field in fields(OODScores)]


class OODReport:
    """What :func:`ood_report` returns: one :class:`OODScores` a set, and their averages.

    Printing it gives a table.

    Parameters
    ----------
    sets : dict of str to OODScores
        By name of the OOD set.
    tpr : float
        True positive rate at which false positive rates are taken.

    Attributes
    ----------
    fpr_id_positive, fpr_ood_positive, auroc, aupr_id, aupr_ood, ood_share : float
        Unweighted averages over the sets.

    Examples
    --------
    >>> from sklearn_ext.metrics import ood_report
    >>> report = ood_report([3.0, 2.0, 1.5], {"near": [1.6, 0.0], "far": [-1.0]})
    >>> report.sets["far"].auroc
    1.0
    >>> round(report.auroc, 3)
    0.917
    """

    def __init__(self, sets, tpr):
        self.sets = sets
        self.tpr = tpr

    def __getattr__(self, name):
        if name not in _METRICS or "sets" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return float(np.mean([getattr(scores, name) for scores in self.sets.values()]))

    def __dir__(self):
        return [*super().__dir__(), *_METRICS]

    def to_frame(self):
        """Return a pandas DataFrame with a row for each set.

        Returns
        -------
        pandas.DataFrame
            Indexed by the names of the sets.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        import pandas as pd

        rows = {name: vars(scores) for name, scores in self.sets.items()}
        return pd.DataFrame.from_dict(rows, orient="index", columns=_METRICS)

    def __str__(self):
        percent = f"{self.tpr:.0%}"
        width = max(map(len, [*self.sets, "average"]))
        lines = [
            f"{'OOD set':{width}} | FPR at {percent} TPR   | AUROC  | AUPR             | OOD",
            f"{'':{width}} | ID pos.  OOD pos. |        | ID pos.  OOD pos. | share",
        ]
        averaged = {"average": self} if len(self.sets) > 1 else {}
        lines += [
            f"{name:{width}} | {row.fpr_id_positive:7.1%}  {row.fpr_ood_positive:8.1%} "
            f"| {row.auroc:6.1%} | {row.aupr_id:7.1%}  {row.aupr_ood:8.1%} | {row.ood_share:5.1%}"
            for name, row in {**self.sets, **averaged}.items()
        ]
        return "\n".join(lines)

    __repr__ = __str__


@validate_params(
    {
        "s_id": ["array-like"],
        "s_ood": ["array-like", dict],
        "tpr": [Interval(Real, 0, 1, closed="right")],
    },
    prefer_skip_nested_validation=True,
)
def ood_report(
    s_id: ArrayLike, s_ood: ArrayLike | Mapping[str, ArrayLike], *, tpr: float = 0.95
) -> OODReport:
    """Judge scores of in-distribution (ID) and out-of-distribution (OOD) rows.

    Scores are higher for ID rows, as ``score_samples`` and ``decision_function`` of scikit-learn's
    outlier detectors are. Negate scores of libraries where outliers have the higher ones.

    Parameters
    ----------
    s_id : array-like of shape (n_id,)
        Scores of ID rows that the detector was not fitted on.
    s_ood : array-like of shape (n_ood,) or dict of str to array-like
        Scores of OOD rows, or of several sets of them by name. Averages over sets hide how hard
        the nearest set is; the report has both.
    tpr : float in (0, 1], default=0.95
        True positive rate at which false positive rates are taken: 0.95 gives "FPR95" in both
        conventions.

    Returns
    -------
    OODReport
        With an :class:`OODScores` a set in ``sets``, averages as attributes, and ``to_frame()``.

    Raises
    ------
    ValueError
        If a set is empty, or a score is not finite.

    See Also
    --------
    fpr_at_tpr_score : The false positive rate alone.
    OODScoreDisplay : Histograms of the same scores.

    Examples
    --------
    >>> from sklearn_ext.metrics import ood_report
    >>> report = ood_report([3.0, 2.0, 1.5, 1.0], [1.2, 0.0])
    >>> report.auroc, report.fpr_id_positive, report.fpr_ood_positive
    (0.875, 0.5, 0.25)
    """
    s_id = _finite_scores(s_id, "s_id")
    if isinstance(s_ood, Mapping):
        named = {str(name): _finite_scores(s, f"s_ood[{name!r}]") for name, s in s_ood.items()}
        if not named:
            raise ValueError("s_ood must name at least one set of scores, got an empty dict.")
    else:
        named = {"OOD": _finite_scores(s_ood, "s_ood")}
    return OODReport({name: _compare(s_id, scores, tpr) for name, scores in named.items()}, tpr)


def _compare(s_id, s_ood, tpr):
    is_id = np.repeat([True, False], [len(s_id), len(s_ood)])
    scores = np.concatenate([s_id, s_ood])
    return OODScores(
        fpr_id_positive=fpr_at_tpr_score(is_id, scores, pos_label=True, tpr=tpr),
        fpr_ood_positive=fpr_at_tpr_score(~is_id, -scores, pos_label=True, tpr=tpr),
        auroc=float(roc_auc_score(is_id, scores)),
        aupr_id=float(average_precision_score(is_id, scores)),
        aupr_ood=float(average_precision_score(~is_id, -scores)),
        ood_share=len(s_ood) / len(scores),
        n_id=len(s_id),
        n_ood=len(s_ood),
    )


def _finite_scores(scores, name):
    scores = column_or_1d(scores, dtype=np.float64)
    if len(scores) == 0:
        raise ValueError(f"{name} must hold at least one score, got none.")
    if not np.isfinite(scores).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity.")
    return scores
