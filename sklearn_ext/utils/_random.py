"""Random generators that leave the global one alone."""

import numpy as np
from sklearn.utils import check_random_state

from ._typing import RandomState

_SEED_BOUND = 2**31 - 1


def local_random_state(random_state: RandomState) -> np.random.RandomState:
    """Return a RandomState that is not the global one.

    Like :func:`sklearn.utils.check_random_state`, except that None gives a new generator seeded
    by the operating system: nothing in this package changes the state of ``np.random``.
    """
    return np.random.RandomState() if random_state is None else check_random_state(random_state)


def draw_seed(random_state: RandomState) -> int:
    """Draw an integer seed, never from the global state of ``np.random``.

    Parameters
    ----------
    random_state : int, RandomState instance or None
        An integer gives the same seed in every call, and None a different one.

    Returns
    -------
    int
    """
    return int(local_random_state(random_state).randint(_SEED_BOUND))
