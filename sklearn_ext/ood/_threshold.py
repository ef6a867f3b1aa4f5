"""The threshold that held-out rows set."""

import numpy as np


def rejection_threshold(scores, rate):
    r"""Threshold below which new in-distribution rows fall with a given probability.

    The :math:`k`-th smallest of n exchangeable scores exceeds the next one with probability
    :math:`k / (n + 1)`, so the quantile is taken at :math:`k = \rho (n + 1)`, linear in between
    and never outside of the scores seen.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores of in-distribution rows that the detector was not fitted on.
    rate : float in (0, 1)
        :math:`\rho`.

    Returns
    -------
    float
    """
    return float(np.quantile(scores, rate, method="weibull"))
