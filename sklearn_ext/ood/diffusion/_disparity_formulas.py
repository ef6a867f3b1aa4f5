r"""How far a sample is from its regeneration: in pixels, in features, in class probabilities.

Every disparity is zero between a sample and itself, never negative, and larger for more unusual
samples. Samples are along the last axis but one. Leading axes broadcast, so that a sample is
compared with all its regenerations at once.
"""

from collections.abc import Mapping

import numpy as np
from scipy.special import log_softmax

from ...utils._typing import FloatArray

_FLOOR = 1e-6


def pixel_disparity(x: FloatArray, x_hat: FloatArray) -> FloatArray:
    r"""Return the distances :math:`\lVert x - \hat x \rVert_2` of samples and regenerations.

    Parameters
    ----------
    x : ndarray of shape (n_samples, d)
        Samples.
    x_hat : ndarray of shape (n_repeats, n_samples, d)
        Regenerations of the samples.

    Returns
    -------
    ndarray of shape (n_repeats, n_samples)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.ood import pixel_disparity
    >>> pixel_disparity(np.array([[0.0, 0.0]]), np.array([[[3.0, 4.0]], [[0.0, 1.0]]]))
    array([[5.],
           [1.]])
    """
    return _norm(np.subtract(x_hat, x, dtype=np.float64))


def feature_disparity(z: FloatArray, z_hat: FloatArray, metric: str) -> FloatArray:
    r"""Return a disparity of penultimate features.

    - "l2": :math:`\lVert z - \hat z \rVert_2`
    - "cosine": :math:`1 - \langle z, \hat z\rangle / \lVert z\rVert\lVert\hat z\rVert`, computed as
      half the squared distance of the unit vectors, which avoids cancellation
    - "unit_l1": :math:`\lVert z/\lVert z\rVert - \hat z/\lVert\hat z\rVert \rVert_1`

    Parameters
    ----------
    z : ndarray of shape (n_samples, d)
        Features of samples.
    z_hat : ndarray of shape (n_repeats, n_samples, d)
        Features of their regenerations.
    metric : {"l2", "cosine", "unit_l1"}
        The disparity.

    Returns
    -------
    ndarray of shape (n_repeats, n_samples)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.ood import feature_disparity
    >>> z, z_hat = np.array([[1.0, 0.0]]), np.array([[[0.0, 2.0]], [[3.0, 0.0]]])
    >>> feature_disparity(z, z_hat, "cosine")
    array([[1.],
           [0.]])
    """
    if metric == "l2":
        return _norm(np.subtract(z_hat, z, dtype=np.float64))
    difference = _unit(z_hat) - _unit(z)
    if metric == "cosine":
        return np.einsum("...d,...d->...", difference, difference) / 2
    return np.abs(difference).sum(axis=-1)


def probability_disparity(logits: FloatArray, logits_hat: FloatArray, metric: str) -> FloatArray:
    r"""Return a disparity of class probabilities p and q, the softmax of the logits.

    - "kl": :math:`\sum_k p_k \log(p_k/q_k)`; "kl_rev" exchanges p and q
    - "jeffreys": the sum of both, :math:`\sum_k (p_k - q_k)(\log p_k - \log q_k)`
    - "js": the mean of the divergences of p and of q from (p + q)/2, at most log 2
    - "logit_l1": :math:`\sum_k |l_k - \hat l_k|`, the only disparity that depends on a constant
      added to all logits of a sample

    Parameters
    ----------
    logits : ndarray of shape (n_samples, n_classes)
        Logits of samples. Log-probabilities give the same result, except for "logit_l1".
    logits_hat : ndarray of shape (n_repeats, n_samples, n_classes)
        Logits of their regenerations.
    metric : {"kl", "kl_rev", "jeffreys", "js", "logit_l1"}
        The disparity.

    Returns
    -------
    float64 ndarray of shape (n_repeats, n_samples)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.ood import probability_disparity
    >>> p, q = np.array([[0.5, 0.5]]), np.array([[[0.8, 0.2]]])
    >>> probability_disparity(np.log(p), np.log(q), "kl").round(4)
    array([[0.2231]])
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


def remove_anomalies(
    z: FloatArray, z_hat: FloatArray, clip_value: float, sides: str
) -> tuple[FloatArray, FloatArray]:
    r"""Clip features at a value that few features of training samples exceed, :math:`\min(z, c)`.

    Abnormally large features are typical of inputs unlike the training data (Sun, Guo and Li,
    2021).

    Parameters
    ----------
    z, z_hat : ndarrays
        Features of samples and of their regenerations.
    clip_value : float
        The value c.
    sides : {"both", "generation", "none"}
        Whether to clip both, only the features of the regeneration, or neither.

    Returns
    -------
    z, z_hat : ndarrays
    """
    if sides != "none":
        z_hat = np.minimum(z_hat, clip_value)
    if sides == "both":
        z = np.minimum(z, clip_value)
    return z, z_hat


def log_disparity(disparity: FloatArray) -> FloatArray:
    r"""Return :math:`\log(D + 10^{-6})`; the floor keeps a perfect regeneration finite."""
    return np.log(disparity + _FLOOR)


def calibrate(disparity: FloatArray) -> tuple[float, float]:
    """Return the mean and standard deviation of the log disparities of ordinary samples.

    If all are equal, the standard deviation is set to one, so that scores are finite.
    """
    logs = log_disparity(disparity)
    # The mean of equal numbers may differ from them by rounding, so `std` need not be exactly zero.
    return float(logs.mean()), float(logs.std()) if np.ptp(logs) > 0 else 1.0


def combine(
    disparities: Mapping[str, FloatArray], calibration: Mapping[str, tuple[float, float]]
) -> FloatArray:
    r"""Return the sum over terms of :math:`(\log(D + 10^{-6}) - \mu) / \sigma`.

    Parameters
    ----------
    disparities : dict of str to ndarray of shape (n,)
        At least one.
    calibration : dict of str to (mean, standard deviation)

    Returns
    -------
    float64 ndarray of shape (n,)
    """
    terms = [
        (log_disparity(values) - calibration[term][0]) / calibration[term][1]
        for term, values in disparities.items()
    ]
    return sum(terms[1:], start=terms[0])


def _norm(difference: FloatArray) -> FloatArray:
    return np.sqrt(np.einsum("...d,...d->...", difference, difference))


def _unit(z: FloatArray) -> FloatArray:
    norm = np.linalg.norm(z, axis=-1, keepdims=True)
    # A sample without any active feature has no direction; it stays at the origin.
    return z / np.where(norm > 0, norm, 1.0)


def _kullback_leibler(log_p: FloatArray, log_q: FloatArray) -> FloatArray:
    # Rounding alone can push the divergence of near-equal distributions below zero.
    return np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=-1), 0.0)
