"""Comparison of unlearned classifiers with a retrained model."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, validate_params

from ..utils._random import local_random_state
from ..utils._rows import check_forget
from ..utils._typing import Array, BoolArray, FloatArray, RandomState
from ._audit import membership_audit
from ._membership import SMALLEST_PROBABILITY, membership_inference_score
from ._model_outputs import aligned_probabilities, labels_of, selected
from ._report import BaseReport


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
    r, p = r.clip(SMALLEST_PROBABILITY), p.clip(SMALLEST_PROBABILITY)
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


RETRAINED = "retrained"
_AUDITED = {"auc": "AUC", "auc_low": "AUC_low", "auc_high": "AUC_high", "tpr": "TPR"}


class UnlearningReport(BaseReport):
    """Metrics of unlearned classifiers: the result of :func:`unlearning_report`.

    Parameters
    ----------
    scores : dict of str to dict of str to float
        Metrics by the name of the model and of the metric; NaN where a metric is not defined. The
        retrained model, if there is one, is called "retrained" and comes first.

    See Also
    --------
    sklearn_ext.UnlearningReportDisplay : The report as a plot.

    Examples
    --------
    >>> from sklearn_ext.metrics import UnlearningReport
    >>> report = UnlearningReport({"mine": {"FA": 12.0, "RA": 99.0}})
    >>> report
            FA    RA
    mine  12.0  99.0
    >>> report.scores["mine"]["RA"]
    99.0
    """

    _columns = {
        **{name: (name, ".1f") for name in ("FA", "UA", "FA_t", "RA", "TA", "MIA")},
        "MIA_efficacy": ("MIA_efficacy", ".1f"),
        **{name: (name, ".2f") for name in ("KL_f", "KL_r", "KL_t")},
        "gap": ("gap", ".1f"),
        **{name: (name, ".1f") for name in ("AUC", "AUC_low", "AUC_high", "TPR")},
        "relearn": ("relearn", ".0f"),
    }


@validate_params(
    {
        "models": [HasMethods(["predict_proba"]), dict],
        "y": ["array-like", None],
        "y_test": ["array-like", None],
        "retrained": [HasMethods(["predict_proba"]), None],
        "forget_test": ["array-like", None],
        "max_samples": [Interval(Integral, 1, None, closed="left")],
        "audit": ["boolean", dict],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def unlearning_report(
    models: Any,
    X: Any,
    y: ArrayLike | None,
    forget: ArrayLike,
    *,
    X_test: Any,
    y_test: ArrayLike | None,
    retrained: Any = None,
    forget_test: ArrayLike | None = None,
    max_samples: int = 2000,
    audit: bool | dict[str, Any] = False,
    random_state: RandomState = None,
) -> UnlearningReport:
    r"""Compare classifiers that should have forgotten samples with a retrained model.

    All numbers except divergences are percentages. The goal is to be close to the retrained model:
    a model that forgets more than that also reveals the forgotten samples.

    Parameters
    ----------
    models : classifier or dict of str to classifier
        Fitted classifiers from any library, with ``predict_proba`` and ``classes_``.
    X : array-like of shape (n_samples, ...), dict of arrays or torch.utils.data.Dataset
        Training samples of the original model, in a form that the models take.
    y : array-like of shape (n_samples,) or None
        Labels of the training samples. None reads them from a dataset, sample by sample.
    forget : array-like of bool of shape (n_samples,) or array-like of int
        The forget set, as a mask or as indices into X.
    X_test : array-like of shape (n_test, ...), dict of arrays or torch.utils.data.Dataset
        Samples that no model was trained on.
    y_test : array-like of shape (n_test,) or None
        Labels of the test samples. None reads them from a dataset.
    retrained : classifier, default=None
        A model trained on the retained set only. Divergences and the gap need it.
    forget_test : array-like of bool of shape (n_test,), default=None
        Test samples that resemble the forget set; TA leaves them out. None uses the samples whose
        class was forgotten entirely; pass a mask if only a part of a class was forgotten.
    max_samples : int, default=2000
        Maximum number of members, and of nonmembers, for the confidence attack.
    audit : bool or dict, default=False
        Whether to attack single samples with shadow models; see :func:`membership_audit`. True
        trains one shadow model. A dictionary sets parameters of the audit, such as
        ``{"n_shadows": 8}``.
    random_state : int, RandomState instance or None, default=None
        Seed for drawing these samples, and for the audit.

    Returns
    -------
    UnlearningReport
        The ``scores`` contain a dictionary for each model:

        - ``FA``, ``UA``: accuracy on the forget set, and 100 minus this accuracy;
        - ``FA_t``: accuracy on the test samples that resemble the forget set;
        - ``RA``, ``TA``: accuracy on the retained set and on the other test samples;
        - ``MIA``: percentage of the forget set that the entropy attack classifies as training
          samples. This attack is weak, because it uses one threshold for all samples and does
          not know their labels;
        - ``MIA_efficacy``: percentage that the confidence attack classifies as unseen samples;
        - ``KL_f``, ``KL_r``, ``KL_t``: mean divergence from the probabilities of the retrained
          model, in nats, on the forget set, the retained set and the test samples;
        - ``gap``: mean absolute difference of FA, RA, TA and MIA from those of the retrained
          model;
        - ``AUC``, ``AUC_low``, ``AUC_high``, ``TPR``: area under the ROC curve of the audit's
          attack with its 95% confidence interval, and its true positive rate at a low false
          positive rate, in percent; an area of 50 means guessing;
        - ``relearn``: number of training steps until the audit finds the forget set relearned.

    Raises
    ------
    ValueError
        If the arrays have different lengths, a name is given twice, or `forget` is not valid.

    See Also
    --------
    sklearn_ext.make_forget_split : Draws a forget set.
    sklearn_ext.UnlearningReportDisplay : The report as a plot.
    sklearn_ext.metrics.membership_inference_score : The attacks MIA and MIA_efficacy.
    sklearn_ext.metrics.membership_audit : The audit alone.

    Notes
    -----
    A model predicts the class with the largest probability. Classes that it was not trained on
    have probability zero.

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
                  FA   UA     RA    TA    MIA  MIA_efficacy  KL_f  KL_r  KL_t   gap
    retrained  100.0  0.0  100.0  99.1   38.8          50.0  0.00  0.00  0.00   0.0
    original   100.0  0.0  100.0  98.4  100.0           0.0  0.04  0.00  0.00  15.5
    forgotten  100.0  0.0  100.0  99.1   38.8          50.0  0.00  0.00  0.00   0.0
    """
    labels, test_labels = labels_of(X, y, "y"), labels_of(X_test, y_test, "y_test")
    mask = np.zeros(len(labels), dtype=bool)
    mask[check_forget(forget, len(labels))] = True
    if not mask.any():
        raise ValueError("forget must select at least one sample, but it selects none.")
    named = {} if retrained is None else {RETRAINED: retrained}
    given = models if isinstance(models, Mapping) else {type(models).__name__: models}
    if not given:
        raise ValueError("models must contain at least one classifier, got an empty dict.")
    if named.keys() & given.keys():
        raise ValueError(
            f"models must not use the name {RETRAINED!r}, which is reserved for `retrained`."
        )
    named |= {str(name): model for name, model in given.items()}
    if forget_test is None:
        gone = np.isin(test_labels, np.setdiff1d(labels[mask], labels[~mask]))
    else:
        gone = column_or_1d(forget_test)
        if gone.dtype != bool or len(gone) != len(test_labels):
            raise ValueError(
                f"forget_test must be a boolean mask of the {len(test_labels)} test samples, "
                f"got shape {gone.shape} and dtype {gone.dtype}."
            )
    if gone.all():
        raise ValueError(
            "X_test must contain samples that do not resemble the forget set, because TA is their "
            f"accuracy, got none among {len(gone)} test samples."
        )
    groups = {
        "f": (selected(X, np.flatnonzero(mask)), labels[mask]),
        "r": (selected(X, np.flatnonzero(~mask)), labels[~mask]),
        "t": (X_test, test_labels),
    }
    rng = local_random_state(random_state)
    seed = rng.randint(2**31 - 1)  # the same samples are drawn for every model
    classes = np.unique(np.concatenate((labels, test_labels)))
    report: dict[str, dict[str, float]] = {}
    reference: tuple[dict[str, FloatArray], dict[str, float]] | None = None
    for name, model in named.items():
        proba = {
            key: aligned_probabilities(model, samples, classes)
            for key, (samples, _) in groups.items()
        }
        targets = {key: given for key, (_, given) in groups.items()}
        row = _metrics_of(proba, targets, classes, gone, max_samples, seed)
        if name == RETRAINED and retrained is not None:
            reference = proba, row
        if reference is not None:
            row |= {f"KL_{k}": mean_kl_divergence(reference[0][k], proba[k]) for k in groups}
            row["gap"] = unlearning_gap(row, reference[1])
        report[name] = row
    if audit is not False:
        options = {"n_shadows": 1} if audit is True else audit
        audited = membership_audit(
            named, X, y, forget, X_test=X_test, y_test=y_test, random_state=seed, **options
        )
        for name, scores in audited.scores.items():
            report[name] |= {short: 100 * scores[given] for given, short in _AUDITED.items()} | {
                "relearn": scores.get("relearn", np.nan)
            }
    return UnlearningReport(report)


def _metrics_of(
    proba: dict[str, FloatArray],
    labels: dict[str, Array],
    classes: Array,
    gone: BoolArray,
    max_samples: int,
    seed: int,
) -> dict[str, float]:
    """Return the metrics that do not need another model, from outputs on the three groups."""

    def accuracy(key: str, samples: slice | BoolArray = slice(None)) -> float:
        right = (classes[proba[key].argmax(axis=1)] == labels[key])[samples]
        return 100.0 * float(right.mean()) if right.size else np.nan

    def attacked(attack: str) -> float:
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
