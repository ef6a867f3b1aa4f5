"""Random generators independent of the global one, and random draws of samples and entries."""

import numpy as np
from sklearn.utils import check_random_state

from ._typing import BoolArray, FloatArray, IntArray, RandomState

_SEED_BOUND = 2**31 - 1


def local_random_state(random_state: RandomState) -> np.random.RandomState:
    """Return a RandomState that is not the global one.

    This works like :func:`sklearn.utils.check_random_state`, except that None gives a new generator
    seeded by the operating system, because nothing in this package may change the state of
    ``np.random``.
    """
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


def draw_seed(random_state: RandomState) -> int:
    """Draw an integer seed, never from the global state of ``np.random``.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        An integer gives the same seed in every call, and None gives a new one each time.

    Returns
    -------
    int
    """
    return int(local_random_state(random_state).randint(_SEED_BOUND))


_N_KEPT = 2  # observed entries that a column needs for a mean and a standard deviation


def held_out_mask(codes: IntArray, fraction: float, rng: np.random.RandomState) -> BoolArray:
    """Draw samples to hold out from training, in proportion from each class.

    Each class keeps a sample for training, and at least one sample is held out.

    Parameters
    ----------
    codes : int ndarray of shape (n,)
        Class indices of the samples; all equal if there are no classes.
    fraction : float in (0, 1)
        Fraction of the samples to hold out.
    rng : RandomState

    Returns
    -------
    bool ndarray of shape (n,)

    Raises
    ------
    ValueError
        If no class has two samples.
    """
    # The position of a sample is the fraction of its class that comes before it. A random offset
    # per class decides which classes provide the samples left over by rounding. The last sample of
    # a class is never drawn.
    position = np.empty(len(codes))
    for code in np.unique(codes):
        members = rng.permutation(np.flatnonzero(codes == code))
        position[members] = (np.arange(len(members)) + rng.random_sample()) / len(members)
        position[members[-1]] = np.inf
    available = int(np.isfinite(position).sum())
    if available == 0:
        raise ValueError(
            "Holding out a sample needs a class with at least two samples, got none among "
            f"{len(codes)} samples."
        )
    n_held_out = min(max(1, round(fraction * len(codes))), available)
    held_out = np.zeros(len(codes), dtype=bool)
    held_out[np.argsort(position, kind="stable")[:n_held_out]] = True
    return held_out


def hide_entries(X: FloatArray, fraction: float, rng: np.random.RandomState) -> BoolArray:
    """Draw observed entries to hide at random, but keep two per column.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Missing values are NaN.
    fraction : float
        Fraction of the observed entries to hide.
    rng : RandomState

    Returns
    -------
    bool ndarray of shape (n, d)
        The entries to hide.
    """
    observed = ~np.isnan(X)
    rank = np.where(observed, rng.random_sample(X.shape), np.inf)
    hidden = np.zeros(X.shape, dtype=bool)
    hidden.flat[np.argsort(rank, axis=None)[: round(fraction * observed.sum())]] = True
    keep = np.argsort(-np.where(observed, rank, -np.inf), axis=0)[:_N_KEPT]
    np.put_along_axis(hidden, keep, False, axis=0)
    return hidden
