import numpy as np


def draw_wrong_labels(codes, retained_codes, rng):
    """Draw for each row a class other than its own, as often as it is among the retained rows.

    Parameters
    ----------
    codes : ndarray of shape (n_forget,)
    retained_codes : ndarray of shape (n_retained,)
        Of at least two classes.
    rng : RandomState

    Returns
    -------
    ndarray of shape (n_forget,), int64
    """
    drawn = rng.choice(retained_codes, size=len(codes))
    while (same := drawn == codes).any():
        drawn[same] = rng.choice(retained_codes, size=same.sum())
    return drawn.astype(np.int64)
