import numpy as np
from sklearn.utils import check_random_state


def local_random_state(random_state):
    """Return a RandomState that is not the global one.

    Like :func:`sklearn.utils.check_random_state`, but None gives a generator of its own, seeded
    by the operating system: nothing in this package changes the state of ``np.random``.
    """
    return np.random.RandomState() if random_state is None else check_random_state(random_state)
