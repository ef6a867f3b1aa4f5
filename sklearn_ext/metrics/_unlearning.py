"""How well classifiers have forgotten, judged by the retrained model."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, validate_params

from ..utils._random import local_random_state
from ..utils._rows import check_forget
from ._closeness import mean_kl_divergence, unlearning_gap
from ._membership import membership_inference_score

METRICS = ("FA", "UA", "FA_t", "RA", "TA", "MIA", "MIA_efficacy", "KL_f", "KL_r", "KL_t", "gap")
RETRAINED = "retrained"


class UnlearningReport:
    """What :func:`unlearning_report` returns: the metrics of each model. Printing gives a table.

    Parameters
    ----------
    metrics : dict of str to dict of str to float
        By name of the model and of the metric; NaN where a metric has no meaning. The retrained
        model, if there is one, is called "retrained" and comes first.

    Examples
    --------
    >>> from sklearn_ext.metrics import UnlearningReport
    >>> report = UnlearningReport({"mine": {"FA": 12.0, "RA": 99.0}})
    >>> report.metrics["mine"]["RA"]
    99.0
    """

    def __init__(self, metrics):
        self.metrics = metrics

    @property
    def names(self):
        """Names of the metrics that some model has."""
        return [
            name
            for name in METRICS
            if any(np.isfinite(row.get(name, np.nan)) for row in self.metrics.values())
        ]

    def to_frame(self):
        """Return a pandas DataFrame with a row for each model.

        Returns
        -------
        pandas.DataFrame
            Indexed by the names of the models.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame.from_dict(self.metrics, orient="index", columns=self.names)

    def __str__(self):
        width = max(map(len, self.metrics))
        names = self.names
        lines = [" " * width + "".join(f"{name:>{_width(name)}}" for name in names)]
        for model, row in self.metrics.items():
            cells = (_cell(name, row.get(name, np.nan)) for name in names)
            lines.append(f"{model:{width}}" + "".join(cells))
        return "\n".join(lines)

    __repr__ = __str__


def _width(name):
    return max(7, len(name) + 2)


def _cell(name, value):
    digits = 2 if name.startswith("KL") else 1
    text = "-" if np.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"  # no "-0.0"
    return f"{text:>{_width(name)}}"


@validate_params(
    {
        "models": [HasMethods(["predict_proba"]), dict],
        "y": ["array-like"],
        "y_test": ["array-like"],
        "retrained": [HasMethods(["predict_proba"]), None],
        "forget_test": ["array-like", None],
        "max_samples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def unlearning_report(
    models: Any,
    X: ArrayLike,
    y: ArrayLike,
    forget: ArrayLike,
    *,
    X_test: ArrayLike,
    y_test: ArrayLike,
    retrained: Any = None,
    forget_test: ArrayLike | None = None,
    max_samples: int = 2000,
    random_state: int | np.random.RandomState | None = None,
) -> UnlearningReport:
    r"""Judge how well classifiers have forgotten rows.

    All numbers but divergences are percentages. Only closeness to the retrained model is good:
    forgetting more than it has is a trace of the rows as well.

    Parameters
    ----------
    models : classifier or dict of str to classifier
        Fitted classifiers with ``predict_proba`` and ``classes_``, of any library.
    X : array-like of shape (n_samples, ...)
        Rows that the original model was trained on.
    y : array-like of shape (n_samples,)
        Their labels.
    forget : array-like of bool of shape (n_samples,) or array-like of int
        The rows that were to be forgotten: a mask or indices.
    X_test : array-like of shape (n_test, ...)
        Rows that no model has seen.
    y_test : array-like of shape (n_test,)
        Their labels.
    retrained : classifier, default=None
        The model trained without the rows. Divergences and the gap need it.
    forget_test : array-like of bool of shape (n_test,), default=None
        Test rows of what was forgotten, which then do not count for TA. None takes those whose
        class has been forgotten as a whole; for a part of a class, pass the mask.
    max_samples : int, default=2000
        Rows on either side for the confidence attack.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw of these rows.

    Returns
    -------
    UnlearningReport
        With ``metrics``, a dictionary a model:

        - ``FA``, ``UA``: accuracy on the rows to forget, and 100 less that;
        - ``FA_t``: accuracy on test rows of what was forgotten;
        - ``RA``, ``TA``: accuracy on the rows to retain and on test rows;
        - ``MIA``: share of the rows to forget that the entropy attack takes for training rows;
        - ``MIA_efficacy``: share that the confidence attack takes for unseen rows;
        - ``KL_f``, ``KL_r``, ``KL_t``: mean divergence from the retrained model's probabilities,
          in nats, on rows to forget, to retain and test rows;
        - ``gap``: mean absolute difference of FA, RA, TA and MIA from the retrained model's.

    Raises
    ------
    ValueError
        If arrays do not fit each other, a name is taken, or a request to forget is wrong.

    See Also
    --------
    make_forget_split : Rows to forget.
    UnlearningReportDisplay : The same as a plot.
    sklearn_ext.metrics.membership_inference_score : The attacks.

    Notes
    -----
    Predicted is the class with the largest probability. A class that a model does not know has
    probability zero.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.
    .. [2] C. Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency
       in Both Image Classification and Generation", ICLR 2024.

    Examples
    --------
    >>> from copy import deepcopy
    >>> from sklearn.base import clone
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn_ext import RandomFeatureClassifier, make_forget_split
    >>> from sklearn_ext.metrics import unlearning_report
    >>> X, y = load_digits(return_X_y=True)
    >>> X, X_test, y, y_test = train_test_split(X / 16, y, random_state=0)
    >>> forget = make_forget_split(y, "random", fraction=0.1, random_state=0)
    >>> original = RandomFeatureClassifier(gamma=0.5, random_state=0).fit(X, y)
    >>> models = {"original": original, "forgotten": deepcopy(original).forget(forget)}
    >>> unlearning_report(models, X, y, forget, X_test=X_test, y_test=y_test,
    ...     retrained=clone(original).fit(X[~forget], y[~forget]), random_state=0)
                   FA     UA     RA     TA    MIA  MIA_efficacy   KL_f   KL_r   KL_t    gap
    retrained   100.0    0.0  100.0   99.1   38.8          50.0   0.00   0.00   0.00    0.0
    original    100.0    0.0  100.0   98.4  100.0           0.0   0.04   0.00   0.00   15.5
    forgotten   100.0    0.0  100.0   99.1   38.8          50.0   0.00   0.00   0.00    0.0
    """
    y, y_test = column_or_1d(y), column_or_1d(y_test)
    check_consistent_length(X, y)
    check_consistent_length(X_test, y_test)
    mask = np.zeros(len(y), dtype=bool)
    mask[check_forget(forget, len(y))] = True
    if not mask.any():
        raise ValueError("forget must select at least one row, got None.")
    named = {} if retrained is None else {RETRAINED: retrained}
    given = models if isinstance(models, Mapping) else {type(models).__name__: models}
    if not given:
        raise ValueError("models must hold at least one classifier, got an empty dict.")
    if named.keys() & given.keys():
        raise ValueError(f"the name {RETRAINED!r} is that of the parameter; choose another one.")
    named |= {str(name): model for name, model in given.items()}
    if forget_test is None:
        gone = np.isin(y_test, np.setdiff1d(y[mask], y[~mask]))
    else:
        gone = column_or_1d(forget_test)
        if gone.dtype != bool or len(gone) != len(y_test):
            raise ValueError(f"forget_test must be a mask over the {len(y_test)} test rows.")
    if gone.all():
        raise ValueError("every test row is of what was forgotten; none is left for TA.")
    groups = {
        "f": (_safe_indexing(X, np.flatnonzero(mask)), y[mask]),
        "r": (_safe_indexing(X, np.flatnonzero(~mask)), y[~mask]),
        "t": (X_test, y_test),
    }
    rng = local_random_state(random_state)
    seed = rng.randint(2**31 - 1)  # the same rows are drawn for every model
    classes = np.unique(np.concatenate((y, y_test)))
    report, reference = {}, None
    for name, model in named.items():
        proba = {key: _aligned(model, rows, classes) for key, (rows, _) in groups.items()}
        labels = {key: labels for key, (_, labels) in groups.items()}
        row = _metrics_of(proba, labels, classes, gone, max_samples, seed)
        if name == RETRAINED and retrained is not None:
            reference = proba, row
        if reference is not None:
            row |= {f"KL_{k}": mean_kl_divergence(reference[0][k], proba[k]) for k in groups}
            row["gap"] = unlearning_gap(row, reference[1])
        report[name] = row
    return UnlearningReport(report)


def _metrics_of(proba, labels, classes, gone, max_samples, seed):
    """Metrics that need no other model, from probabilities and labels of the three groups."""

    def accuracy(key, rows=slice(None)):
        right = classes[proba[key].argmax(axis=1)] == labels[key]
        return 100.0 * right[rows].mean() if right[rows].size else np.nan

    def attacked(attack):
        return 100.0 * membership_inference_score(
            proba["f"],
            proba["r"],
            proba["t"],
            y=labels["f"],
            y_member=labels["r"],
            y_nonmember=labels["t"],
            classes=classes,
            attack=attack,
            max_samples=max_samples,
            random_state=seed,
        )

    forgotten = accuracy("f")
    return {
        "FA": forgotten,
        "UA": 100.0 - forgotten,
        "FA_t": accuracy("t", gone),
        "RA": accuracy("r"),
        "TA": accuracy("t", ~gone),
        "MIA": attacked("entropy"),
        "MIA_efficacy": 100.0 - attacked("confidence"),
    }


def _aligned(model, X, classes):
    """Probabilities of a model with a column for each of the given classes."""
    given = np.asarray(model.predict_proba(X), dtype=np.float64)
    unknown = np.setdiff1d(model.classes_, classes)
    if len(unknown):
        raise ValueError(
            f"{type(model).__name__} has the class {unknown.tolist()[0]!r}, which neither y nor "
            "y_test has."
        )
    out = np.zeros((len(given), len(classes)))
    out[:, np.searchsorted(classes, model.classes_)] = given
    return out
