r"""The best denoiser for a finite set of samples, in closed form.

For samples :math:`x_1, \dots, x_m` the denoising loss
:math:`E\,\lVert e - \hat e(x_t, t) \rVert^2` is smallest at the posterior mean

.. math::
    m(x_t) = \sum_i \pi_i x_i, \qquad
    \pi = \mathrm{softmax}_i\Bigl(
        -\frac{\lVert x_t - \sqrt{a}\,x_i \rVert^2}{2 (1 - a)}\Bigr), \qquad
    \hat e = \frac{x_t - \sqrt{a}\,m}{\sqrt{1 - a}} .

A network is trained to approximate this. Here it is two matrix products with a softmax between
them.
"""

from collections.abc import Iterator

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from ...generative import cosine_signal_level, noise_from_clean
from ...neural import resolve_device
from ...utils._typing import FloatArray, IntArray

# The logits of a block of queries for all stored samples stay in the cache between the products.
_BLOCK_ENTRIES = 2**18
_BLOCK_ROWS = 64, 256
_DEVICE_ENTRIES = 2**26  # largest number of logits in the memory of another device at a time
# exp(-80) is negligible compared with one, but far from the denormal numbers that slow a product
# down.
_SMALLEST_LOGIT = np.float32(-80.0)


def posterior_weights(
    x_t: FloatArray, stored: FloatArray, half_norms: FloatArray, level: float
) -> FloatArray:
    r"""Return :math:`\pi` of the module's formula for one block of queries, up to a factor.

    The largest weight of each query is 1. :math:`\lVert x_t \rVert^2` is the same for all i and
    cancels. The rest of the exponent is
    :math:`(\sqrt{a}\,\langle x_t, x_i\rangle - a \lVert x_i \rVert^2/2)/(1 - a)`.

    Parameters
    ----------
    x_t : ndarray of shape (n, d)
        Queries.
    stored : ndarray of shape (m, d)
        Stored samples.
    half_norms : ndarray of shape (m,)
        Half the squared norms of the stored samples.
    level : float in (0, 1)
        Signal level a.

    Returns
    -------
    ndarray of shape (n, m)
    """
    weights = (x_t * np.asarray(np.sqrt(level) / (1 - level), x_t.dtype)) @ stored.T
    weights -= (level / (1 - level) * half_norms).astype(x_t.dtype)
    weights -= weights.max(axis=1, keepdims=True)
    np.maximum(weights, _SMALLEST_LOGIT, out=weights)
    np.exp(weights, out=weights)
    return weights


def posterior_mean(
    x_t: FloatArray, stored: FloatArray, half_norms: FloatArray, level: float
) -> FloatArray:
    r"""Return :math:`m(x_t)` for the arguments of :func:`posterior_weights`, of shape (n, d)."""
    weights = posterior_weights(x_t, stored, half_norms, level)
    mean = weights @ stored
    mean /= weights.sum(axis=1, keepdims=True)
    return mean


@torch.no_grad()
def posterior_mean_on_device(
    x_t: FloatArray, stored: FloatArray, half_norms: FloatArray, level: float, device: str
) -> FloatArray:
    """Return what :func:`posterior_mean` returns, computed on a device."""
    queries, samples = (torch.from_numpy(part).to(device) for part in (x_t, stored))
    offsets = torch.from_numpy((level / (1 - level) * half_norms).astype(x_t.dtype)).to(device)
    size = max(_DEVICE_ENTRIES // len(stored), 1)
    blocks = []
    for block in queries.split(size):
        logits = (block * (level**0.5 / (1 - level))) @ samples.T - offsets
        blocks.append(torch.softmax(logits, dim=1) @ samples)
    return torch.cat(blocks).cpu().numpy()


class EmpiricalDenoiser:
    r"""The denoiser of least squared error for a finite set of samples, in closed form.

    It estimates a clean sample as the posterior mean over stored samples, of all classes or of
    one:

    .. math::
        \hat x_0 = \sum_i \pi_i x_i, \qquad
        \pi = \mathrm{softmax}_i\Bigl(
            -\frac{\lVert x_t - \sqrt{a}\,x_i \rVert^2}{2 (1 - a)}\Bigr) .

    It needs no training. Its schedule is the cosine schedule.

    Parameters
    ----------
    samples : float32 ndarray of shape (n_stored, ...)
        The samples to store, scaled as the noisy samples will be.
    codes : int ndarray of shape (n_stored,) or None, default=None
        Class indices of the samples; None stores no classes.
    device : str, torch.device or None, default=None
        Where to compute; see :func:`~sklearn_ext.neural.resolve_device`. None means the CPU, where
        NumPy computes.

    See Also
    --------
    DiffusionOODDetector : Uses it unless it is given another diffusion model.

    References
    ----------
    .. [1] T. Karras, M. Aittala, T. Aila, S. Laine, "Elucidating the Design Space of
       Diffusion-Based Generative Models", NeurIPS 2022, appendix B.3.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.ood import EmpiricalDenoiser
    >>> denoiser = EmpiricalDenoiser(np.array([[-1.0], [1.0]], dtype=np.float32))
    >>> x_t = np.array([[-2.0], [0.0], [0.5]], dtype=np.float32)
    >>> denoiser.posterior_mean(x_t, level=0.5).round(2)
    array([[-0.99],
           [ 0.  ],
           [ 0.61]], dtype=float32)
    """

    def __init__(
        self,
        samples: FloatArray,
        codes: IntArray | None = None,
        *,
        device: str | torch.device | None = None,
    ) -> None:
        self.device = str(resolve_device(device))
        flat = samples.reshape(len(samples), -1)
        # Distances do not depend on the origin, but their rounding does.
        self.center = flat.mean(axis=0, dtype=np.float64).astype(flat.dtype)
        order = np.arange(len(flat)) if codes is None else np.argsort(codes, kind="stable")
        self.samples = flat[order] - self.center
        half_norms = np.einsum("md,md->m", self.samples, self.samples, dtype=np.float64) / 2
        self.half_norms: FloatArray = half_norms
        # The samples are sorted by class, so that those of one class are a view, not a copy.
        self.codes = None if codes is None else codes[order]

    def signal_level(self, t: float) -> float:
        """Return the signal level of the cosine schedule.

        Parameters
        ----------
        t : float in [0, 1]
            The time.

        Returns
        -------
        float
        """
        return cosine_signal_level(t)

    def predict_noise(self, x_t: FloatArray, t: float, y: IntArray | None = None) -> FloatArray:
        """Estimate the noise in samples at time t.

        Parameters
        ----------
        x_t : float32 ndarray of shape (n_samples, ...)
            Noisy samples.
        t : float in [0, 1]
            Time of the noisy samples.
        y : int ndarray of shape (n_samples,) or None, default=None
            Class indices to condition on; None for no condition.

        Returns
        -------
        float32 ndarray of the shape of x_t
        """
        level = self.signal_level(t)
        return noise_from_clean(x_t, self.posterior_mean(x_t, level, y), level)

    def posterior_mean(
        self, x_t: FloatArray, level: float, y: IntArray | None = None
    ) -> FloatArray:
        """Return the posterior mean over all stored samples, or over those of class y.

        Parameters
        ----------
        x_t : float32 ndarray of shape (n_samples, ...)
            Noisy samples.
        level : float in (0, 1)
            Signal level of the noisy samples.
        y : int ndarray of shape (n_samples,) or None, default=None
            Class indices to condition on; None for no condition.

        Returns
        -------
        float32 ndarray of the shape of x_t
        """
        queries = self._centered(x_t, level)
        mean = np.empty_like(queries)
        # Blocks are small: a second thread would wait for the first, and round differently.
        with threadpool_limits(limits=1, user_api="blas"):
            for which, stored in self._groups(len(queries), y):
                self._fill(mean, queries, which, level, stored)
        mean += self.center
        return mean.reshape(x_t.shape)

    def effective_samples(
        self, x_t: FloatArray, level: float, y: IntArray | None = None
    ) -> FloatArray:
        r"""Return how many stored samples take part in each posterior mean.

        It is :math:`1 / \sum_i \pi_i^2`: 1 if one sample has all the weight, and m if all stored
        samples have the same weight.

        Parameters
        ----------
        x_t : float32 ndarray of shape (n_samples, ...)
            Noisy samples.
        level : float in (0, 1)
            Signal level of the noisy samples.
        y : int ndarray of shape (n_samples,) or None, default=None
            Class indices to condition on; None for no condition.

        Returns
        -------
        float32 ndarray of shape (n_samples,)
        """
        queries = self._centered(x_t, level)
        effective = np.empty(len(queries), dtype=queries.dtype)
        for which, stored in self._groups(len(queries), y):
            samples, half_norms = self.samples[stored], self.half_norms[stored]
            weights = posterior_weights(queries[which], samples, half_norms, level)
            effective[which] = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
        return effective

    def _centered(self, x_t: FloatArray, level: float) -> FloatArray:
        return x_t.reshape(len(x_t), -1) - np.sqrt(level, dtype=x_t.dtype) * self.center

    def _groups(self, n: int, y: IntArray | None) -> Iterator[tuple[IntArray, slice]]:
        """Yield the queries of each class, and the samples that are stored for it."""
        if y is None:
            yield np.arange(n), slice(None)
            return
        self.check_classes(y)
        for code in np.unique(y):
            stored = slice(*np.searchsorted(self._stored_codes(), [code, code + 1]))
            yield np.flatnonzero(y == code), stored

    def check_classes(self, y: IntArray) -> None:
        """Check that samples of every class are stored.

        Parameters
        ----------
        y : int ndarray
            Class indices.

        Raises
        ------
        ValueError
            If no sample of a class in y is stored.
        """
        if len(missing := np.setdiff1d(y, self._stored_codes())):
            raise ValueError(
                "No training samples are stored for the classes with the indices "
                f"{missing.tolist()} in classes_. Increase n_prototypes, or pass y with "
                "these classes."
            )

    def _stored_codes(self) -> IntArray:
        return np.empty(0, dtype=np.intp) if self.codes is None else self.codes

    def _fill(
        self, mean: FloatArray, queries: FloatArray, which: IntArray, level: float, stored: slice
    ) -> None:
        samples, half_norms = self.samples[stored], self.half_norms[stored]
        if self.device != "cpu":
            mean[which] = posterior_mean_on_device(
                queries[which], samples, half_norms, level, self.device
            )
            return
        smallest, largest = _BLOCK_ROWS
        size = min(max(_BLOCK_ENTRIES // len(samples) // smallest, 1) * smallest, largest)
        for start in range(0, len(which), size):
            # Products of different shapes round differently. Short blocks repeat their rows, so
            # that all products have one shape and no result depends on the other queries.
            block = np.resize(which[start : start + size], size)
            mean[block] = posterior_mean(queries[block], samples, half_norms, level)


def draw_prototypes(codes: IntArray, n_prototypes: int, rng: np.random.RandomState) -> IntArray:
    """Choose samples at random: the same fraction of every class, and at least one of each.

    Parameters
    ----------
    codes : int ndarray of shape (n,)
        Class indices.
    n_prototypes : int
        At least the number of classes.
    rng : RandomState

    Returns
    -------
    int ndarray of shape (min(n, n_prototypes),)
        Indices in rising order.
    """
    order = rng.permutation(len(codes))
    counts = np.bincount(codes)
    by_class = order[np.argsort(codes[order], kind="stable")]
    position = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    fraction = position / np.repeat(counts, counts)
    return np.sort(by_class[np.argsort(fraction, kind="stable")[:n_prototypes]])
