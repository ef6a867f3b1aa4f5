"""Rows that are held out for mixing."""

import numpy as np


def holdout_rows(strata, fraction, rng):
    """Divide rows into those that train ingredients and those that mix them.

    Rows are put in order by stratum, at random within each, and every (1 / fraction)-th is held
    out. So each stratum gives its share to within one row; its first row always stays for
    training, so that no class is left out there.

    Parameters
    ----------
    strata : ndarray of shape (n_samples,)
        Class of each row; all equal where there are no classes.
    fraction : float in (0, 1)
    rng : RandomState

    Returns
    -------
    training, mixing : ndarrays of int
        Increasing.

    Raises
    ------
    ValueError
        If no row would be left for mixing.
    """
    n = len(strata)
    order = rng.permutation(n)
    order = order[np.argsort(strata[order], kind="stable")]
    first = np.r_[True, strata[order][1:] != strata[order][:-1]]
    candidates = order[~first]
    n_mixing = min(max(1, round(fraction * n)), len(candidates))
    if n_mixing == 0:
        raise ValueError(
            f"validation_fraction={fraction!r} of n_samples={n} leaves no row for mixing: there "
            "must be more rows than classes."
        )
    positions = (np.arange(n_mixing) + rng.random_sample()) * len(candidates) / n_mixing
    mixing = np.sort(candidates[positions.astype(int)])
    return np.setdiff1d(np.arange(n), mixing), mixing
