"""Which rows to forget in the usual experiments."""

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from ..utils._random import local_random_state


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
    random_state: int | np.random.RandomState | None = None,
) -> np.ndarray:
    """Choose rows to forget, as experiments on unlearning do.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        Labels that the model predicts.
    kind : {"class", "subclass", "random"}, default="class"
        "class" forgets all rows of a class; "subclass" all rows of a part of a class, which the
        model does not tell apart from the rest; "random" a share of each class.
    target : label, default=None
        Class to forget, or label in `y_fine` of the part. None draws one.
    y_fine : array-like of shape (n_samples,), default=None
        For "subclass": finer labels, each of which lies within one class.
    fraction : float in (0, 1), default=0.1
        For "random": share of the rows of each class; at least one row, and never all of them.
    random_state : int, RandomState instance or None, default=None
        Seed of what is drawn.

    Returns
    -------
    ndarray of bool of shape (n_samples,)
        True for rows to forget.

    Raises
    ------
    ValueError
        If the target is not among the labels, if it is not a proper part of one class, or if
        nothing would be left.

    See Also
    --------
    unlearning_report : How well the rows were forgotten.

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
    y = column_or_1d(y)
    rng = local_random_state(random_state)
    if kind == "random":
        return _random_share(y, fraction, rng)
    if kind == "class":
        mask = y == _label(target, y, "y", rng)
        if mask.all():
            raise ValueError("y has one class only; forgetting it would leave nothing.")
        return mask
    if y_fine is None:
        raise ValueError("kind='subclass' needs y_fine, labels of the parts of the classes.")
    y_fine = column_or_1d(y_fine)
    check_consistent_length(y, y_fine)
    label = _label(target, y_fine, "y_fine", rng)
    mask = y_fine == label
    classes = np.unique(y[mask])
    if len(classes) > 1 or mask.sum() == (y == classes[0]).sum():
        raise ValueError(
            f"the rows with y_fine={label!r} must be a part of one class, got "
            + (f"rows of {len(classes)} classes." if len(classes) > 1 else "a whole one.")
        )
    return mask


def _label(target, labels, name, rng):
    known = np.unique(labels)
    if target is None:
        return known[rng.randint(len(known))]
    if target not in known:
        raise ValueError(f"target must be a label of {name}, got {target!r}.")
    return target


def _random_share(y, fraction, rng):
    mask = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        mask[rows[: min(max(1, round(fraction * len(rows))), len(rows) - 1)]] = True
    if not mask.any():
        raise ValueError("every class has one row only; forgetting it would leave nothing.")
    return mask
