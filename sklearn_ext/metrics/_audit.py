"""Audit of unlearning: attacks on single samples by shadow models, and relearning."""

import copy
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import joblib
import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata
from sklearn.base import clone
from sklearn.utils._param_validation import HasMethods, Interval, validate_params

from ..utils._random import draw_seed, local_random_state
from ..utils._rows import check_forget
from ..utils._typing import Array, BoolArray, FloatArray, IntArray, RandomState
from ..utils._validation import unfrozen
from ._membership import SMALLEST_PROBABILITY, label_codes, true_class_probability
from ._model_outputs import aligned_probabilities, joined, labels_of, selected
from ._report import BaseReport

_RELEARN_BATCH = 32
_RELEARN_SAMPLES = 500  # retained samples on which the accuracy is measured
_RELEARNED = 0.95  # fraction of the accuracy on the retained set


def logit_confidence(proba: FloatArray, codes: IntArray) -> FloatArray:
    r"""Return :math:`\log p_y - \log \sum_{c \ne y} p_c`, which is roughly normal over models [1]_.

    Parameters
    ----------
    proba : ndarray of shape (n, C)
        Probabilities of the classes.
    codes : ndarray of int of shape (n,)
        Class index y of each sample; -1 for a label without a column.

    Returns
    -------
    ndarray of shape (n,)

    References
    ----------
    .. [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramèr, "Membership Inference
       Attacks From First Principles", IEEE S&P 2022, arXiv:2112.03570.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.metrics import logit_confidence
    >>> logit_confidence(np.array([[0.5, 0.5], [0.9, 0.1]]), np.array([0, 0])).round(2)
    array([0. , 2.2])
    """
    own = true_class_probability(proba, codes)
    rest = proba.copy()
    known = np.flatnonzero(codes >= 0)
    rest[known, codes[known]] = 0.0
    # Summing the other probabilities avoids the cancellation of one minus the own.
    others = rest.sum(axis=1)
    return np.log(own.clip(SMALLEST_PROBABILITY)) - np.log(others.clip(SMALLEST_PROBABILITY))


def likelihood_ratio(scores: FloatArray, shadows: FloatArray, inside: BoolArray) -> FloatArray:
    r"""Return the log-likelihood ratio of "was trained on" to "was never seen" of each sample [1]_.

    The scores of a sample in shadow models with it, and in those without it, are modeled as normal,
    each with its own mean. The two variances are pooled over the samples, because a handful of
    shadow models cannot determine them for each sample.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores of the samples in the model under attack.
    shadows : ndarray of shape (n_shadows, n)
        Scores in the shadow models.
    inside : bool ndarray of shape (n_shadows, n)
        Whether each shadow model was trained on each sample. Every sample needs at least one shadow
        model with it and one without it.

    Returns
    -------
    ndarray of shape (n,)
        Higher for samples that behave like training samples.

    References
    ----------
    .. [1] N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramèr, "Membership Inference
       Attacks From First Principles", IEEE S&P 2022, arXiv:2112.03570.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.metrics import likelihood_ratio
    >>> shadows = np.array([[3.0, 1.0], [1.0, 3.0], [3.2, 0.8], [0.8, 3.2]])
    >>> inside = np.array([[True, False], [False, True], [True, False], [False, True]])
    >>> likelihood_ratio(np.array([3.1, 0.9]), shadows, inside).round(1)
    array([ 121., -121.])
    """
    log_density = []
    for group in (inside, ~inside):
        counts = group.sum(axis=0)
        mean = np.where(group, shadows, 0.0).sum(axis=0) / counts
        residuals = np.where(group, shadows - mean, 0.0)
        freedom = int((counts - 1).sum())
        variance = float((residuals**2).sum() / freedom) if freedom > 0 else 1.0
        variance = max(variance, np.finfo(np.float64).tiny, 1e-12)
        log_density.append(-((scores - mean) ** 2) / (2 * variance) - 0.5 * np.log(variance))
    return log_density[0] - log_density[1]


def auc_interval(
    positive: FloatArray, negative: FloatArray, confidence: float = 0.95
) -> tuple[float, float, float]:
    r"""Return the area under the ROC curve with its confidence interval by DeLong's variance [1]_.

    Parameters
    ----------
    positive : ndarray of shape (m,)
        Scores of the positives, at least two.
    negative : ndarray of shape (n,)
        Scores of the negatives, at least two.
    confidence : float, default=0.95
        Probability that the interval covers the area.

    Returns
    -------
    auc, low, high : float

    References
    ----------
    .. [1] E. DeLong, D. DeLong, D. Clarke-Pearson, "Comparing the Areas under Two or More
       Correlated Receiver Operating Characteristic Curves", Biometrics 44, 1988.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.metrics import auc_interval
    >>> [round(v, 2) for v in auc_interval(np.array([3.0, 2.0, 5.0]), np.array([1.0, 2.5, 0.0]))]
    [0.89, 0.58, 1.0]
    """
    m, n = len(positive), len(negative)
    ranks = rankdata(np.concatenate([positive, negative]))
    # The fraction of samples of the other group that each sample exceeds; ties count half.
    above = (ranks[:m] - rankdata(positive)) / n
    below = 1 - (ranks[m:] - rankdata(negative)) / m
    auc = float(above.mean())
    spread = np.sqrt(above.var(ddof=1) / m + below.var(ddof=1) / n)
    half = float(norm.ppf((1 + confidence) / 2) * spread)
    return auc, max(auc - half, 0.0), min(auc + half, 1.0)


class MembershipAudit(BaseReport):
    """Success of attacks on single samples: the result of :func:`membership_audit`.

    Parameters
    ----------
    scores : dict of str to dict of str to float
        Scores by the name of the model:

        - ``auc``, ``auc_low``, ``auc_high``: area under the ROC curve of the attack that tells
          forgotten samples from unseen samples, with its 95% confidence interval. 0.5 means
          guessing;
        - ``tpr``: fraction of the forgotten samples that the attack finds at the low false positive
          rate;
        - ``relearn``: number of training steps on the forget set until its accuracy is back;
          infinite if it does not come back.

    Examples
    --------
    >>> from sklearn_ext.metrics import MembershipAudit
    >>> MembershipAudit({"original": {"auc": 0.7, "auc_low": 0.65, "auc_high": 0.75, "tpr": 0.1}})
                AUC    low   high    TPR
    original  0.700  0.650  0.750  10.0%
    """

    _columns = {
        "auc": ("AUC", ".3f"),
        "auc_low": ("low", ".3f"),
        "auc_high": ("high", ".3f"),
        "tpr": ("TPR", ".1%"),
        "relearn": ("relearn", ".0f"),
    }


@validate_params(
    {
        "models": [HasMethods(["predict_proba"]), dict],
        "X": "no_validation",
        "y": ["array-like", None],
        "forget": ["array-like"],
        "X_test": "no_validation",
        "y_test": ["array-like", None],
        "estimator": [HasMethods(["fit", "predict_proba"]), None],
        "n_shadows": [Interval(Integral, 1, None, closed="left")],
        "max_samples": [Interval(Integral, 2, None, closed="left")],
        "fpr": [Interval(Real, 0, 1, closed="neither")],
        "relearn_steps": [Interval(Integral, 0, None, closed="left")],
        "memory": [str, HasMethods(["cache"]), None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def membership_audit(
    models: Any,
    X: Any,
    y: ArrayLike | None,
    forget: ArrayLike,
    *,
    X_test: Any,
    y_test: ArrayLike | None,
    estimator: Any = None,
    n_shadows: int = 8,
    max_samples: int = 500,
    fpr: float = 0.01,
    relearn_steps: int = 50,
    memory: Any = None,
    n_jobs: int | None = None,
    random_state: RandomState = None,
) -> MembershipAudit:
    r"""Measure how well an attacker tells forgotten samples from samples that were never seen.

    An average over samples hides those that are remembered. This audit attacks each sample by
    itself, in the manner of U-LiRA [1]_: shadow models are trained on the retained set and a random
    half of a pool of forgotten and unseen samples, and unlearn that half with the method of the
    audited model. For each sample, the attack compares its confidence in the audited model with its
    confidence in the shadow models that have forgotten it, and in those that never saw it.

    Parameters
    ----------
    models : classifier or dict of str to classifier
        Fitted classifiers, or unlearners. The shadow models of an unlearner are unlearned by a
        clone of it; those of any other classifier are not, so that the attack looks for samples
        that the classifier was trained on.
    X : array-like of shape (n_samples, ...), dict of arrays or torch.utils.data.Dataset
        Training samples of the original model.
    y : array-like of shape (n_samples,) or None
        Labels of the training samples. None reads them from a dataset.
    forget : array-like of bool of shape (n_samples,) or array-like of int
        The forget set, as a mask or as indices into X.
    X_test : array-like of shape (n_test, ...), dict of arrays or torch.utils.data.Dataset
        Samples that no model was trained on. The audit uses those of the classes in the forget set,
        as many of each class as it uses forgotten samples.
    y_test : array-like of shape (n_test,) or None
        Labels of the test samples. None reads them from a dataset.
    estimator : classifier, default=None
        Shadow models are clones of this classifier. None means the first of the models or, if it is
        an unlearner, its classifier.
    n_shadows : int, default=8
        Number of shadow models, 1 or an even number. Each has to be trained. With 1, a single model
        of the retained set shows how confident a model without the sample is, and the attack uses
        the difference (calibration by difficulty [2]_), which is cheaper but weaker.
    max_samples : int, default=500
        Maximum number of forgotten samples, and of unseen samples, that are attacked.
    fpr : float in (0, 1), default=0.01
        False positive rate at which ``tpr`` is taken.
    relearn_steps : int, default=50
        Maximum number of training steps of 32 samples in the relearning test: a copy of the model
        is trained on the forget set with ``partial_fit`` until its accuracy there is 95% of that
        on the retained set. A model that has forgotten takes as many steps as a retrained one. 0
        skips the test, as do models without ``partial_fit``.
    memory : str or joblib.Memory, default=None
        Where the outputs of shadow models are cached, so that another audit of the same samples
        trains nothing. It needs an integer as `random_state`.
    n_jobs : int, default=None
        Number of shadow models that joblib trains at a time.
    random_state : int, RandomState instance or None, default=None
        Seed of all draws and of the training of shadow models.

    Returns
    -------
    MembershipAudit
        Scores of each model in ``scores``.

    Raises
    ------
    ValueError
        If the arrays have different lengths, `forget` is not valid, `n_shadows` is odd, or there
        are fewer than two forgotten samples or two unseen samples of their classes.

    See Also
    --------
    unlearning_report : Averages over samples, and this audit on request.
    membership_inference_score : Weaker attacks, without shadow models.

    Notes
    -----
    Compare with the same audit of a retrained model, whose AUC differs from 0.5 only by chance. An
    AUC below 0.5 means that forgotten samples stand out in the other direction: the model has
    forgotten too much.

    References
    ----------
    .. [1] J. Hayes, I. Shumailov, E. Triantafillou, A. Khalifa, N. Papernot, "Inexact Unlearning
       Needs More Careful Evaluations to Avoid a False Sense of Privacy", arXiv:2403.01218, 2024.
    .. [2] L. Watson, C. Guo, G. Cormode, A. Sablayrolles, "On the Importance of Difficulty
       Calibration in Membership Inference Attacks", ICLR 2022, arXiv:2111.08440.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn_ext import make_forget_split
    >>> from sklearn_ext.metrics import membership_audit
    >>> X, y = load_digits(return_X_y=True)
    >>> forget = make_forget_split(y[:900], "random", fraction=0.2, random_state=0)
    >>> forest = RandomForestClassifier(n_estimators=50, max_depth=8, random_state=0)
    >>> models = {
    ...     "original": forest.fit(X[:900], y[:900]),
    ...     "retrained": RandomForestClassifier(n_estimators=50, max_depth=8, random_state=1).fit(
    ...         X[:900][~forget], y[:900][~forget]
    ...     ),
    ... }
    >>> audit = membership_audit(models, X[:900], y[:900], forget, X_test=X[900:],
    ...     y_test=y[900:], n_shadows=4, random_state=0)
    >>> audit.scores["original"]["auc"] > 0.8
    True
    >>> abs(audit.scores["retrained"]["auc"] - 0.5) < 0.1
    True
    """
    if n_shadows > 1 and n_shadows % 2:
        raise ValueError(f"n_shadows must be 1 or an even number, got {n_shadows}.")
    labels, test_labels = labels_of(X, y, "y"), labels_of(X_test, y_test, "y_test")
    mask = np.zeros(len(labels), dtype=bool)
    mask[check_forget(forget, len(labels))] = True
    named = dict(models) if isinstance(models, Mapping) else {type(models).__name__: models}
    if not named:
        raise ValueError("models must contain at least one classifier, got an empty dict.")
    rng = local_random_state(random_state)
    forgotten, unseen = _pool(labels, mask, test_labels, max_samples, rng)
    X_pool = joined(selected(X, forgotten), selected(X_test, unseen))
    y_pool = np.concatenate([labels[forgotten], test_labels[unseen]])
    retained = np.flatnonzero(~mask)
    X_retained, y_retained = selected(X, retained), labels[retained]
    classes = np.unique(np.concatenate([labels, test_labels]))
    inside = _balanced_halves(len(y_pool), n_shadows, rng)
    first = _classifier_of(next(iter(named.values())))
    template = clone(unfrozen(first if estimator is None else estimator))
    unlearners = {
        name: _without_weights(model) for name, model in named.items() if _is_unlearner(model)
    }
    shadow_scores = _shadow_scores
    if memory is not None:
        location = joblib.Memory(memory, verbose=0) if isinstance(memory, str) else memory
        shadow_scores = location.cache(_shadow_scores)
    seeds = [draw_seed(rng) for _ in range(n_shadows)]
    by_shadow = joblib.Parallel(n_jobs=n_jobs)(
        joblib.delayed(shadow_scores)(
            template, unlearners, X_retained, y_retained, X_pool, y_pool, part, classes, seed
        )
        for part, seed in zip(inside, seeds, strict=True)
    )
    codes = label_codes(y_pool, classes)
    relearn_seed = draw_seed(rng)
    report = {}
    for name, model in named.items():
        scores = logit_confidence(aligned_probabilities(model, X_pool, classes), codes)
        key = name if name in unlearners else None
        shadows = np.array([each[key] for each in by_shadow])
        if n_shadows == 1:
            evidence = scores - shadows[0]
        else:
            evidence = likelihood_ratio(scores, shadows, inside)
        row = _attack_scores(evidence[: len(forgotten)], evidence[len(forgotten) :], fpr)
        if relearn_steps > 0:
            of_forgotten = selected(X, forgotten), labels[forgotten]
            some = rng.permutation(len(retained))[:_RELEARN_SAMPLES]
            of_retained = selected(X_retained, some), y_retained[some]
            row["relearn"] = _steps_to_relearn(
                model, of_forgotten, of_retained, relearn_steps, relearn_seed
            )
        report[name] = row
    return MembershipAudit(report)


def _pool(
    labels: Array,
    mask: BoolArray,
    test_labels: Array,
    max_samples: int,
    rng: np.random.RandomState,
) -> tuple[IntArray, IntArray]:
    """Choose forgotten and unseen samples, equally many in each class."""
    forgotten, unseen = [], []
    for label in np.unique(labels[mask]):
        first = rng.permutation(np.flatnonzero(mask & (labels == label)))
        second = rng.permutation(np.flatnonzero(test_labels == label))
        n = min(len(first), len(second))
        forgotten.append(first[:n])
        unseen.append(second[:n])
    order = rng.permutation(sum(map(len, forgotten)))[:max_samples]
    if len(order) < 2:
        raise ValueError(
            "forget must contain at least two samples of classes that occur as often in y_test, "
            f"got {len(order)}."
        )
    return np.concatenate(forgotten)[order], np.concatenate(unseen)[order]


def _balanced_halves(n: int, n_shadows: int, rng: np.random.RandomState) -> BoolArray:
    """Draw the samples of each shadow model: half of all, and each in half of the models."""
    inside = np.zeros((n_shadows, n), dtype=bool)
    for k in range(0, n_shadows - 1, 2):
        inside[k, rng.permutation(n)[: n // 2]] = True
        inside[k + 1] = ~inside[k]
    return inside


def _is_unlearner(model: Any) -> bool:
    return hasattr(model, "original_estimator_") and hasattr(model, "estimator_")


def _classifier_of(model: Any) -> Any:
    return model.estimator_ if _is_unlearner(model) else model


def _without_weights(unlearner: Any) -> Any:
    return clone(copy.copy(unlearner).set_params(estimator=None))


def _shadow_scores(
    template: Any,
    unlearners: dict[str, Any],
    X_retained: Any,
    y_retained: Array,
    X_pool: Any,
    y_pool: Array,
    inside: BoolArray,
    classes: Array,
    seed: int,
) -> dict[str | None, FloatArray]:
    """Train a shadow model; return the scores of the pool before (None) and after each unlearner.

    Unlearners forget the part of the pool that the shadow model was trained on.
    """
    codes = label_codes(y_pool, classes)
    chosen = np.flatnonzero(inside)
    X, y = X_retained, y_retained
    if len(chosen):
        X, y = joined(X_retained, selected(X_pool, chosen)), np.append(y, y_pool[chosen])
    shadow = _seeded(template, seed).fit(X, y)
    outputs: dict[str | None, Any] = {None: shadow}
    request = np.arange(len(y)) >= len(y_retained)
    for name, unlearner in unlearners.items():
        if len(chosen):
            copied = _seeded(unlearner, seed).set_params(estimator=shadow)
            outputs[name] = copied.fit(X, y, forget=request)
        else:
            outputs[name] = shadow
    return {
        name: logit_confidence(aligned_probabilities(model, X_pool, classes), codes)
        for name, model in outputs.items()
    }


def _seeded(model: Any, seed: int) -> Any:
    cloned = clone(model)
    names = [n for n in cloned.get_params(deep=True) if n.split("__")[-1] == "random_state"]
    return cloned.set_params(**dict.fromkeys(names, seed))


def _attack_scores(positive: FloatArray, negative: FloatArray, fpr: float) -> dict[str, float]:
    auc, low, high = auc_interval(positive, negative)
    n_accepted = int(np.floor(fpr * len(negative)))
    threshold = np.sort(negative)[::-1][n_accepted]
    return {
        "auc": auc,
        "auc_low": low,
        "auc_high": high,
        "tpr": float((positive > threshold).mean()),
    }


def _steps_to_relearn(
    model: Any,
    of_forgotten: tuple[Any, Array],
    of_retained: tuple[Any, Array],
    relearn_steps: int,
    seed: int,
) -> float:
    """Return the number of steps until the forget set is almost as accurate as the retained set."""
    classifier = _classifier_of(model)
    if not hasattr(classifier, "partial_fit"):
        return np.nan
    learner = copy.deepcopy(classifier)
    if "max_epochs" in learner.get_params(deep=False):
        learner.set_params(max_epochs=1)
    X, y = of_forgotten
    X_retained, y_retained = of_retained
    target = _RELEARNED * np.mean(learner.predict(X_retained) == y_retained)
    rng = np.random.RandomState(seed)
    order = np.empty(0, dtype=np.intp)
    for step in range(relearn_steps + 1):
        if np.mean(learner.predict(X) == y) >= target:
            return float(step)
        if len(order) < min(_RELEARN_BATCH, len(y)):
            order = rng.permutation(len(y))
        batch, order = order[:_RELEARN_BATCH], order[_RELEARN_BATCH:]
        learner.partial_fit(selected(X, batch), y[batch])
    return np.inf
