r"""How far a row is from its regeneration: in pixels, in features, in class probabilities.

Every disparity is zero between a row and itself, never negative, and larger for what is stranger.
Rows are along the last axis but one; leading axes broadcast, so that one row is held against all
its regenerations at once.
"""

import numpy as np
from scipy.special import log_softmax

_FLOOR = 1e-6


def pixel_disparity(x, x_hat):
    r"""Return :math:`\lVert x - \hat x \rVert_2`.

    Parameters
    ----------
    x : ndarray of shape (n, d)
    x_hat : ndarray of shape (n_repeats, n, d)

    Returns
    -------
    ndarray of shape (n_repeats, n)
    """
    return _norm(np.subtract(x_hat, x, dtype=np.float64))


def feature_disparity(z, z_hat, metric):
    r"""Return a disparity of penultimate features.

    - "l2": :math:`\lVert z - \hat z \rVert_2`
    - "cosine": :math:`1 - \langle z, \hat z\rangle / \lVert z\rVert\lVert\hat z\rVert`, computed as
      half the squared distance of the unit vectors, which does not cancel
    - "unit_l1": :math:`\lVert z/\lVert z\rVert - \hat z/\lVert\hat z\rVert \rVert_1`

    Parameters
    ----------
    z : ndarray of shape (n, d)
    z_hat : ndarray of shape (n_repeats, n, d)
    metric : {"l2", "cosine", "unit_l1"}

    Returns
    -------
    ndarray of shape (n_repeats, n)
    """
    if metric == "l2":
        return _norm(np.subtract(z_hat, z, dtype=np.float64))
    difference = _unit(z_hat) - _unit(z)
    if metric == "cosine":
        return np.einsum("...d,...d->...", difference, difference) / 2
    return np.abs(difference).sum(axis=-1)


def probability_disparity(logits, logits_hat, metric):
    r"""Return a disparity of class probabilities p and q, the softmax of the logits.

    - "kl": :math:`\sum_k p_k \log(p_k/q_k)`; "kl_rev" with p and q exchanged
    - "jeffreys": their sum, :math:`\sum_k (p_k - q_k)(\log p_k - \log q_k)`
    - "js": the mean of the divergences of p and of q from (p + q)/2, at most log 2
    - "logit_l1": :math:`\sum_k |l_k - \hat l_k|`, the only one that sees a constant added to all
      logits of one row

    Parameters
    ----------
    logits : ndarray of shape (n, n_classes)
        Log-probabilities will do, but for "logit_l1".
    logits_hat : ndarray of shape (n_repeats, n, n_classes)
    metric : {"kl", "kl_rev", "jeffreys", "js", "logit_l1"}

    Returns
    -------
    float64 ndarray of shape (n_repeats, n)
    """
    logits, logits_hat = np.asarray(logits, np.float64), np.asarray(logits_hat, np.float64)
    if metric == "logit_l1":
        return np.abs(logits - logits_hat).sum(axis=-1)
    log_p, log_q = log_softmax(logits, axis=-1), log_softmax(logits_hat, axis=-1)
    if metric == "kl":
        return _kullback_leibler(log_p, log_q)
    if metric == "kl_rev":
        return _kullback_leibler(log_q, log_p)
    if metric == "jeffreys":
        return ((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q)).sum(axis=-1)
    log_mean = np.logaddexp(log_p, log_q) - np.log(2.0)
    return (_kullback_leibler(log_p, log_mean) + _kullback_leibler(log_q, log_mean)) / 2


def remove_anomalies(z, z_hat, clip_value, sides):
    r"""Clip features at a value that few features of training rows exceed, :math:`\min(z, c)`.

    Abnormally large features are a mark of what the classifier has not seen (Sun, Guo and Li,
    2021). `sides` tells whether features of the row and of its regeneration are clipped, those of
    the regeneration alone, or neither.

    Parameters
    ----------
    z, z_hat : ndarrays
    clip_value : float
    sides : {"both", "generation", "none"}

    Returns
    -------
    z, z_hat : ndarrays
    """
    if sides != "none":
        z_hat = np.minimum(z_hat, clip_value)
    if sides == "both":
        z = np.minimum(z, clip_value)
    return z, z_hat


def log_disparity(disparity):
    r"""Return :math:`\log(D + 10^{-6})`; the floor keeps a perfect regeneration finite."""
    return np.log(disparity + _FLOOR)


def calibrate(disparity):
    """Return mean and standard deviation of the log disparities of ordinary rows.

    Without any spread the standard deviation is one: all rows score alike, and finitely.
    """
    logs = log_disparity(disparity)
    # The mean of equal numbers need not be exactly their value.
    return float(logs.mean()), float(logs.std()) if np.ptp(logs) > 0 else 1.0


def combine(disparities, calibration):
    r"""Return the sum over terms of :math:`(\log(D + 10^{-6}) - \mu) / \sigma`.

    Parameters
    ----------
    disparities : dict of str to ndarray of shape (n,)
    calibration : dict of str to (mean, standard deviation)

    Returns
    -------
    float64 ndarray of shape (n,)
    """
    return sum(
        (log_disparity(values) - calibration[term][0]) / calibration[term][1]
        for term, values in disparities.items()
    )


def _norm(difference):
    return np.sqrt(np.einsum("...d,...d->...", difference, difference))


def _unit(z):
    norm = np.linalg.norm(z, axis=-1, keepdims=True)
    # A row without any active feature has no direction; it stays at the origin.
    return z / np.where(norm > 0, norm, 1.0)


def _kullback_leibler(log_p, log_q):
    # Rounding alone can push the divergence of near-equal distributions below zero.
    return np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=-1), 0.0)
