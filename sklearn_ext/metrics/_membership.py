"""Membership inference: attacks that classify samples as training samples."""

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from sklearn.utils import check_array, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..utils._random import local_random_state
from ..utils._typing import Array, FloatArray, IntArray, RandomState

SMALLEST_PROBABILITY = 1e-12  # probabilities are clipped from below at this value before logarithms


def prediction_entropy(proba: FloatArray) -> FloatArray:
    """Return the entropy of each row of probabilities (n, C), in nats."""
    return -xlogy(proba, proba).sum(axis=1)


def true_class_probability(proba: FloatArray, codes: IntArray) -> FloatArray:
    """Return the probability of each sample's class; zero where the class index is -1."""
    return np.where(codes >= 0, proba[np.arange(len(proba)), codes], 0.0)


def modified_entropy(proba: FloatArray, codes: IntArray) -> FloatArray:
    r"""Return the entropy modified by the label: zero if the label is certain, otherwise larger.

    .. math:: m(x, y) = -(1 - p_y)\log p_y - \sum_{c \ne y} p_c \log(1 - p_c)

    Parameters
    ----------
    proba : ndarray of shape (n, C)
    codes : ndarray of int of shape (n,)
        Class indices; -1 for a label without a column, which has probability zero.

    Returns
    -------
    ndarray of shape (n,)
    """
    own = true_class_probability(proba, codes)
    others = proba * np.log(np.clip(1.0 - proba, SMALLEST_PROBABILITY, None))
    total = others.sum(axis=1) - true_class_probability(others, codes)
    return -(1.0 - own) * np.log(np.clip(own, SMALLEST_PROBABILITY, None)) - total


def label_codes(y: Array, classes: Array) -> IntArray:
    """Return the class indices of labels; -1 for labels that are not in `classes`."""
    order = np.argsort(classes)
    place = np.searchsorted(classes, y, sorter=order).clip(max=len(classes) - 1)
    codes = order[place]
    return np.where(np.asarray(classes)[codes] == y, codes, -1)


@validate_params(
    {
        "proba": ["array-like"],
        "proba_member": ["array-like"],
        "proba_nonmember": ["array-like"],
        "y": ["array-like", None],
        "y_member": ["array-like", None],
        "y_nonmember": ["array-like", None],
        "classes": ["array-like", None],
        "attack": [StrOptions({"entropy", "confidence", "modified_entropy"})],
        "max_samples": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def membership_inference_score(
    proba: ArrayLike,
    proba_member: ArrayLike,
    proba_nonmember: ArrayLike,
    *,
    y: ArrayLike | None = None,
    y_member: ArrayLike | None = None,
    y_nonmember: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    attack: str = "entropy",
    max_samples: int = 2000,
    random_state: RandomState = None,
) -> float:
    """Fraction of samples that a membership inference attack classifies as training samples.

    The attack learns to distinguish members (training samples) from nonmembers by one number per
    sample, which it computes from the probabilities of the model; it is then applied to the
    samples in question. Neither a high nor a low fraction is good in itself: a model that has
    forgotten samples should be as hard to attack as one that was never trained on them, and not
    harder.

    These attacks, above all the entropy attack, are weak, because one threshold serves all samples.
    Use :func:`membership_audit` to find single samples that are remembered.

    Parameters
    ----------
    proba : array-like of shape (n_samples, n_classes)
        Probabilities of the samples in question.
    proba_member : array-like of shape (n_members, n_classes)
        Probabilities of training samples.
    proba_nonmember : array-like of shape (n_nonmembers, n_classes)
        Probabilities of samples that the model was not trained on.
    y, y_member, y_nonmember : array-like, default=None
        Labels of these samples. The entropy attack does not need them.
    classes : array-like of shape (n_classes,), default=None
        Labels of the columns; None means ``0, 1, ...``. Other labels have probability zero.
    attack : {"entropy", "confidence", "modified_entropy"}, default="entropy"
        "entropy" is a logistic regression with balanced classes on the entropy of the probabilities
        [1]_. "modified_entropy" is the same attack on an entropy modified by the label [2]_.
        "confidence" is a support vector machine on the probability of the label, with equal numbers
        of members and nonmembers [3]_.
    max_samples : int, default=2000
        Maximum number of members, and of nonmembers, for "confidence".
    random_state : int, RandomState instance or None, default=None
        Seed for drawing these samples.

    Returns
    -------
    float
        Between 0 and 1. Reference [3]_ calls one minus this value the efficacy of unlearning.

    Raises
    ------
    ValueError
        If the arrays of probabilities have different numbers of columns, or labels are missing.

    See Also
    --------
    sklearn_ext.unlearning_report : This and all other metrics of unlearning.

    References
    ----------
    .. [1] R. Yang, M. He, Z. He, Y. Qiu, X. Huang, "MUSO: Achieving Exact Machine Unlearning in
       Over-Parameterized Regimes", arXiv:2410.08557, 2024.
    .. [2] L. Song, P. Mittal, "Systematic Evaluation of Privacy Risks of Machine Learning Models",
       USENIX Security 2021.
    .. [3] C. Fan et al., "SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency
       in Both Image Classification and Generation", ICLR 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.metrics import membership_inference_score
    >>> sure, unsure = np.tile([0.99, 0.01], (50, 1)), np.tile([0.6, 0.4], (50, 1))
    >>> membership_inference_score(sure[:8], proba_member=sure, proba_nonmember=unsure)
    1.0
    >>> membership_inference_score(unsure[:8], proba_member=sure, proba_nonmember=unsure)
    0.0
    """
    groups = [
        _signal(name, values, labels, classes, attack)
        for name, values, labels in (
            ("", proba, y),
            ("_member", proba_member, y_member),
            ("_nonmember", proba_nonmember, y_nonmember),
        )
    ]
    widths = {width for _, width in groups}
    if len(widths) > 1:
        raise ValueError(
            "proba, proba_member and proba_nonmember must have the same number of columns, got "
            f"{sorted(widths)}."
        )
    asked, members, others = (signal[:, None] for signal, _ in groups)
    if attack == "confidence":
        n = min(len(members), len(others), max_samples)
        rng = local_random_state(random_state)
        members, others = (g[rng.permutation(len(g))[:n]] for g in (members, others))
        attacker = SVC(C=3.0, gamma="auto")
    else:
        attacker = LogisticRegression(class_weight="balanced")
    is_member = np.repeat([1, 0], [len(members), len(others)])
    attacker.fit(np.vstack((members, others)), is_member)
    return float(attacker.predict(asked).mean())


def _signal(
    name: str,
    probabilities: ArrayLike,
    labels: ArrayLike | None,
    classes: ArrayLike | None,
    attack: str,
) -> tuple[FloatArray, int]:
    """Return the number that the attack uses for each sample, and the number of classes."""
    proba = check_array(probabilities, dtype=np.float64, input_name=f"proba{name}")
    sums = proba.sum(axis=1)
    if (proba < 0).any() or abs(sums - 1.0).max() > 1e-3:
        raise ValueError(
            f"proba{name} must have nonnegative rows that sum to one, got entries from "
            f"{proba.min():.3g} and sums from {sums.min():.3g} to {sums.max():.3g}."
        )
    n_classes = proba.shape[1]
    if attack == "entropy":
        return prediction_entropy(proba), n_classes
    if labels is None:
        raise ValueError(f"y{name} must be given for attack={attack!r}, got None.")
    known = np.arange(n_classes) if classes is None else column_or_1d(classes)
    if len(known) != n_classes:
        raise ValueError(
            f"classes must have one label per column, {n_classes}, got {len(known)} labels."
        )
    y = column_or_1d(labels)
    if len(y) != len(proba):
        raise ValueError(f"y{name} must have {len(proba)} labels, got {len(y)}.")
    codes = label_codes(y, known)
    signal = true_class_probability if attack == "confidence" else modified_entropy
    return signal(proba, codes), n_classes
