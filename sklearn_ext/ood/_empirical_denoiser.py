r"""The best denoiser for a finite set of rows, in closed form.

Over rows :math:`x_1, \dots, x_m` the loss of denoising,
:math:`E\,\lVert e - \hat e(x_t, t) \rVert^2`, is least at the posterior mean

.. math::
    m(x_t) = \sum_i \pi_i x_i, \qquad
    \pi = \mathrm{softmax}_i\Bigl(
        -\frac{\lVert x_t - \sqrt{a}\,x_i \rVert^2}{2 (1 - a)}\Bigr), \qquad
    \hat e = \frac{x_t - \sqrt{a}\,m}{\sqrt{1 - a}} .

What a network is trained to approximate is here two matrix products and a softmax between them.
"""

import numpy as np
from threadpoolctl import threadpool_limits

from ..generative import cosine_signal_level, noise_from_clean

# Logits of a block of queries against all rows stay in the cache between the two products.
_BLOCK_ENTRIES = 2**18
_BLOCK_ROWS = 64, 256
# exp(-80) is nothing beside one, yet far from the denormal numbers that slow a product down.
_SMALLEST_LOGIT = np.float32(-80.0)


def posterior_mean(x_t, rows, half_norms, level):
    r"""Return :math:`m(x_t)` of the module's formula for one block of queries.

    :math:`\lVert x_t \rVert^2` is the same for all i and cancels; what is left of the exponent is
    :math:`(\sqrt{a}\,\langle x_t, x_i\rangle - a \lVert x_i \rVert^2/2)/(1 - a)`.

    Parameters
    ----------
    x_t : ndarray of shape (n, d)
    rows : ndarray of shape (m, d)
    half_norms : ndarray of shape (m,)
        Half the squared norms of the rows.
    level : float in (0, 1)
        a.

    Returns
    -------
    ndarray of shape (n, d)
    """
    weights = (x_t * np.asarray(np.sqrt(level) / (1 - level), x_t.dtype)) @ rows.T
    weights -= (level / (1 - level) * half_norms).astype(x_t.dtype)
    weights -= weights.max(axis=1, keepdims=True)
    np.maximum(weights, _SMALLEST_LOGIT, out=weights)
    np.exp(weights, out=weights)
    mean = weights @ rows
    mean /= weights.sum(axis=1, keepdims=True)
    return mean


class EmpiricalDenoiser:
    """The posterior mean over stored rows as a denoiser, of all classes or of one.

    Parameters
    ----------
    rows : float32 ndarray of shape (m, ...)
        In the units of the path.
    codes : int ndarray of shape (m,) or None
        Codes of the rows' classes; None stores no classes.
    """

    def __init__(self, rows, codes=None):
        flat = rows.reshape(len(rows), -1)
        # Distances do not depend on the origin, but their rounding does.
        self.center = flat.mean(axis=0, dtype=np.float64).astype(flat.dtype)
        order = slice(None) if codes is None else np.argsort(codes, kind="stable")
        self.rows = flat[order] - self.center
        self.half_norms = np.einsum("md,md->m", self.rows, self.rows, dtype=np.float64) / 2
        # Rows stand class by class: those of one class are a view, not a copy.
        self.codes = None if codes is None else codes[order]

    def signal_level(self, t):
        return cosine_signal_level(t)

    def predict_noise(self, x_t, t, y=None):
        level = self.signal_level(t)
        return noise_from_clean(x_t, self.posterior_mean(x_t, level, y), level)

    def posterior_mean(self, x_t, level, y=None):
        """Return the posterior mean of each row, of all stored rows or of those of class y.

        Parameters
        ----------
        x_t : float32 ndarray of shape (n, ...)
        level : float in (0, 1)
        y : int ndarray of shape (n,) or None

        Returns
        -------
        float32 ndarray of the shape of x_t
        """
        queries = x_t.reshape(len(x_t), -1) - np.sqrt(level, dtype=x_t.dtype) * self.center
        mean = np.empty_like(queries)
        # Blocks are small: a second thread would wait for the first, and round differently.
        with threadpool_limits(limits=1, user_api="blas"):
            if y is None:
                self._fill(mean, queries, np.arange(len(queries)), level, slice(None))
            else:
                self.check_classes(y)
                for code in np.unique(y):
                    stored = slice(*np.searchsorted(self.codes, [code, code + 1]))
                    self._fill(mean, queries, np.flatnonzero(y == code), level, stored)
        mean += self.center
        return mean.reshape(x_t.shape)

    def check_classes(self, y):
        """Raise ValueError unless rows of every class in y are stored."""
        stored = np.array([], dtype=int) if self.codes is None else self.codes
        if len(missing := np.setdiff1d(y, stored)):
            raise ValueError(
                "No training row is stored of the classes at the positions "
                f"{missing.tolist()} in classes_; raise n_prototypes, or give y for them."
            )

    def _fill(self, mean, queries, which, level, stored):
        rows, half_norms = self.rows[stored], self.half_norms[stored]
        smallest, largest = _BLOCK_ROWS
        size = min(max(_BLOCK_ENTRIES // len(rows) // smallest, 1) * smallest, largest)
        for start in range(0, len(which), size):
            # Products of different shapes round differently. All of them have one shape, short
            # blocks repeating their rows, and so no row depends on what comes with it.
            block = np.resize(which[start : start + size], size)
            mean[block] = posterior_mean(queries[block], rows, half_norms, level)


def draw_prototypes(codes, n_prototypes, rng):
    """Choose rows at random, of every class the same share and at least one.

    Parameters
    ----------
    codes : int ndarray of shape (n,)
    n_prototypes : int
        Not fewer than there are classes.
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
    share = position / np.repeat(counts, counts)
    return np.sort(by_class[np.argsort(share, kind="stable")[:n_prototypes]])
