"""The samples to forget: a user's request, and the usual choices in experiments."""

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..utils._random import local_random_state
from ..utils._rows import check_forget
from ..utils._typing import Array, BoolArray, IntArray, RandomState


@dataclass(frozen=True)
class ForgetRequest:
    """The samples to forget and the samples to retain.

    Parameters
    ----------
    forget : ndarray of int
        Indices of the forget set.
    retain : ndarray of int
        Indices of the retained set.

    Examples
    --------
    >>> from sklearn_ext.unlearning import ForgetRequest
    >>> request = ForgetRequest.from_user([True, False, False, True, False], n_samples=5)
    >>> request.forget, request.retain
    (array([0, 3]), array([1, 2, 4]))
    """

    forget: IntArray
    retain: IntArray

    @classmethod
    def from_user(cls, forget: ArrayLike | None, n_samples: int) -> "ForgetRequest":
        """Check what a user passes as `forget`.

        Parameters
        ----------
        forget : array-like of bool of shape (n_samples,), array-like of int, or None
            A mask, or indices. None requests nothing.
        n_samples : int
            Number of samples that the model was trained on.

        Returns
        -------
        ForgetRequest

        Raises
        ------
        ValueError
            If `forget` selects no sample, all samples, a sample twice or one that does not exist,
            or is a mask of the wrong length.
        TypeError
            If `forget` is neither a mask nor indices.
        """
        index = check_forget(forget, n_samples)
        retained = np.ones(n_samples, dtype=bool)
        retained[index] = False
        return cls(index, np.flatnonzero(retained))

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to forget."""
        return len(self.forget) == 0


@validate_params(
    {
        "y": ["array-like"],
        "kind": [StrOptions({"class", "subclass", "random"})],
        "target": "no_validation",
        "y_fine": ["array-like", None],
        "fraction": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_forget_split(
    y: ArrayLike,
    kind: str = "class",
    *,
    target: Any = None,
    y_fine: ArrayLike | None = None,
    fraction: float = 0.1,
    random_state: RandomState = None,
) -> BoolArray:
    """Choose samples to forget, as experiments on unlearning do.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels that the model predicts.
    kind : {"class", "subclass", "random"}, default="class"
        "class" forgets all samples of a class. "subclass" forgets all samples of a part of a
        class, which the model does not distinguish from the rest of the class. "random" forgets a
        fraction of each class.
    target : label, default=None
        The class to forget or, for "subclass", the label in `y_fine`. None draws one at random.
    y_fine : array-like of shape (n_samples,), default=None
        Finer labels for "subclass", each of which lies within one class.
    fraction : float in (0, 1), default=0.1
        Fraction of the samples of each class for "random"; at least one sample of a class that has
        more than one, and never all of them.
    random_state : int, RandomState instance or None, default=None
        Seed of the random choices.

    Returns
    -------
    ndarray of bool of shape (n_samples,)
        True for the samples to forget.

    Raises
    ------
    ValueError
        If the target is not one of the labels, if it is not a proper part of one class, or if
        no sample would be left.

    See Also
    --------
    unlearning_report : Measures how well the samples were forgotten.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext import make_forget_split
    >>> y = np.repeat(["cat", "dog"], [6, 4])
    >>> make_forget_split(y, "class", target="dog").sum()
    np.int64(4)
    >>> make_forget_split(y, "random", fraction=0.5, random_state=0).sum()
    np.int64(5)
    >>> breed = np.repeat(["tabby", "siamese", "beagle", "poodle"], [3, 3, 2, 2])
    >>> y[make_forget_split(y, "subclass", target="beagle", y_fine=breed)]
    array(['dog', 'dog'], dtype='<U3')
    """
    labels: Array = column_or_1d(y)
    rng = local_random_state(random_state)
    if kind == "random":
        return _random_fraction(labels, fraction, rng)
    if kind == "class":
        mask = labels == _label(target, labels, "y", rng)
        if mask.all():
            raise ValueError("y contains only one class; forgetting it would leave no sample.")
        return mask
    if y_fine is None:
        raise ValueError("kind='subclass' requires y_fine, the labels of the parts of the classes.")
    fine_labels: Array = column_or_1d(y_fine)
    check_consistent_length(labels, fine_labels)
    label = _label(target, fine_labels, "y_fine", rng)
    mask = fine_labels == label
    classes = np.unique(labels[mask])
    if len(classes) > 1 or mask.sum() == (labels == classes[0]).sum():
        raise ValueError(
            f"The samples with y_fine={label!r} must be a part of one class, but they "
            + (f"belong to {len(classes)} classes." if len(classes) > 1 else "are a whole class.")
        )
    return mask


def _label(target: Any, labels: Array, name: str, rng: np.random.RandomState) -> Any:
    known = np.unique(labels)
    if target is None:
        return known[rng.randint(len(known))]
    if target not in known:
        raise ValueError(f"target must be one of the labels in {name}, got {target!r}.")
    return target


def _random_fraction(y: Array, fraction: float, rng: np.random.RandomState) -> BoolArray:
    mask = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        mask[members[: min(max(1, round(fraction * len(members))), len(members) - 1)]] = True
    if not mask.any():
        raise ValueError(
            "Every class in y has only one sample; forgetting it would leave the class empty."
        )
    return mask
