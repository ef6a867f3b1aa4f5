r"""Differentially private release of a node's sums, by the Gaussian mechanism.

All nodes share one map :math:`z` that depends on no sample: a constant and pairs of cosine and sine
with random frequencies, so that :math:`\lVert z(x) \rVert^2 = 1` for every x. With targets t in
[-1, 1], a node releases once

.. math:: G = \sum_n z(x_n) z(x_n)^T, \qquad m = \sum_n z(x_n)\, t_n ,

as the vector of the entries of G on the diagonal, those above it times :math:`\sqrt{2}`, and
:math:`m`. Adding or removing one sample moves this vector by at most
:math:`\sqrt{\lVert z \rVert^4 + t^2 \lVert z \rVert^2} \le \sqrt{2}`. Independent normal noise of
standard deviation s then gives (epsilon, delta)-differential privacy if and only if [1]_

.. math::
    \Phi\Big(\frac{\Delta}{2s} - \frac{\epsilon s}{\Delta}\Big)
    - e^\epsilon\, \Phi\Big(-\frac{\Delta}{2s} - \frac{\epsilon s}{\Delta}\Big) \le \delta .

Any result computed from the release satisfies the same guarantee.

References
----------
.. [1] B. Balle, Y.-X. Wang, "Improving the Gaussian Mechanism for Differential Privacy: Analytical
   Calibration and Optimal Denoising", ICML 2018, arXiv:1805.06530.
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr

from ...utils._typing import FloatArray
from ._random_features import FeatureMap

SENSITIVITY = 2.0**0.5


def gaussian_delta(noise_scale: float, epsilon: float, sensitivity: float = 1.0) -> float:
    """Return the smallest delta of the Gaussian mechanism for a given epsilon.

    Parameters
    ----------
    noise_scale : float
        Standard deviation of the noise.
    epsilon : float
    sensitivity : float, default=1.0
        Largest Euclidean distance that one sample can move the released vector.

    Returns
    -------
    float
    """
    half, shift = sensitivity / (2.0 * noise_scale), epsilon * noise_scale / sensitivity
    return float(np.exp(log_ndtr(half - shift)) - np.exp(epsilon + log_ndtr(-half - shift)))


def gaussian_noise_scale(epsilon: float, delta: float, sensitivity: float = 1.0) -> float:
    """Return the smallest noise that makes one Gaussian release (epsilon, delta)-private.

    Parameters
    ----------
    epsilon, delta : float
        Privacy parameters; epsilon is positive and delta in (0, 1).
    sensitivity : float, default=1.0
        Largest Euclidean distance that one sample can move the released vector.

    Returns
    -------
    float
        Standard deviation of the noise on every entry.

    Raises
    ------
    ValueError
        If a parameter is out of range.

    Examples
    --------
    >>> from sklearn_ext.decentralized import gaussian_noise_scale
    >>> print(f"{gaussian_noise_scale(epsilon=1.0, delta=1e-5):.4f}")
    3.7306
    """
    if not 0.0 < epsilon < np.inf:
        raise ValueError(f"epsilon must be positive and finite, got {epsilon!r}.")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta must be in (0, 1), got {delta!r}.")

    def excess(log_scale: float) -> float:
        return gaussian_delta(np.exp(log_scale), epsilon) - delta

    low, high = -1.0, 1.0
    while excess(low) < 0:
        low -= 1.0
    while excess(high) > 0:
        high += 1.0
    root = brentq(excess, low, high, xtol=1e-14)
    return (
        sensitivity * float(np.exp(root)) * (1.0 + 1e-12)
    )  # so that rounding does not reduce the noise


def shared_map(
    n_features: int, n_components: int, gamma: float, rng: np.random.Generator
) -> FeatureMap:
    """Return a constant and random pairs of cosine and sine, D in all, whose squares sum to 1.

    D is odd; an even `n_components` is reduced by one.
    """
    n_pairs = (n_components - 1) // 2
    frequencies = rng.standard_normal((n_features, n_pairs)) * (2.0 * gamma) ** 0.5
    phases = np.repeat((0.0, -np.pi / 2), n_pairs)
    constant = np.zeros((n_features, 1))
    # The features of a map are sqrt(2 / D) times a cosine. The phase of the constant makes its
    # square 1 / D, as for every other feature on average.
    return FeatureMap(np.hstack((frequencies, frequencies, constant)), np.append(phases, np.pi / 4))


def release_sums(
    gram: FloatArray, moment: FloatArray, noise_scale: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Add noise to the sums of a node.

    Parameters
    ----------
    gram : ndarray of shape (D, D)
    moment : ndarray of shape (D,)
    noise_scale : float
        Standard deviation for every entry of the released vector.
    rng : numpy.random.Generator
        Whoever can repeat its draws can remove the noise.

    Returns
    -------
    gram, moment : ndarray
        The noisy sums; the matrix is symmetric but may have negative eigenvalues.
    """
    size = len(moment)
    above = np.triu(rng.standard_normal((size, size)), 1) / 2.0**0.5
    noise = above + above.T + np.diag(rng.standard_normal(size))
    return gram + noise_scale * noise, moment + noise_scale * rng.standard_normal(size)


def positive_part(gram: FloatArray) -> FloatArray:
    """Replace negative eigenvalues of a symmetric matrix by zero."""
    values, vectors = np.linalg.eigh(gram)
    return (vectors * values.clip(min=0.0)) @ vectors.T
