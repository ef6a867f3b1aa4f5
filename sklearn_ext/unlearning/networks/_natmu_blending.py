r"""Blends of forget rows with retained rows, as NatMU trains on them.

A hybrid of a forget row :math:`x_u` and a retained row :math:`x_r` is

.. math::
    B_k(x_u, x_r) = m_k \odot x_u + (1 - m_k) \odot x_r ,

with a mask :math:`m_k \in [0, 1]` over the positions of an image, the same for all channels. It
carries the label of the retained row, which is right for a part of the blend.
"""

import numpy as np

_MEAN_SHARE = 0.47  # mean of the gradual masks at side lengths of 28 to 32
_N_GRADUAL = 4


def tent(length):
    r"""Return the profile that rises from 0 to the middle and falls back to 0.

    With :math:`b = \lfloor S/2 \rfloor` for a length S, an even profile is
    :math:`(0, 1/b, \ldots, (b-1)/b, (b-1)/b, \ldots, 1/b, 0)`; an odd one interpolates
    :math:`(0, (b-1)/b, 0)` at S equally spaced points.

    Parameters
    ----------
    length : int

    Returns
    -------
    ndarray of shape (length,)
    """
    half = length // 2
    if half == 0:
        return np.zeros(length)
    if length % 2:
        peak = (half - 1) / half
        return np.interp(np.arange(length), [0, half, length - 1], [0.0, peak, 0.0])
    ramp = np.arange(half) / half
    return np.concatenate([ramp, ramp[::-1]])


def gradual_masks(height, width, n_masks, delta):
    r"""Return NatMU's masks for images: shares of the forget row at every position.

    .. math::
        m_1[i, j] = t_H[i], \quad m_2[i, j] = t_W[j], \quad
        m_3[i, j] = \max t_H - t_H[i], \quad m_4[i, j] = \max t_W - t_W[j],

    with the :func:`tent` t, then shifted by delta and clipped to [0, 1]. More than four repeat.

    Returns
    -------
    ndarray of shape (n_masks, height, width)
    """
    rows = np.repeat(tent(height)[:, None], width, axis=1)
    columns = np.repeat(tent(width)[None, :], height, axis=0)
    four = np.stack([rows, columns, rows.max() - rows, columns.max() - columns])
    return np.clip(four[np.arange(n_masks) % _N_GRADUAL] + delta, 0.0, 1.0)


def uniform_masks(n_masks, delta):
    """Return one share for all columns, ``0.47 + delta``, where columns have no order.

    Returns
    -------
    ndarray of shape (n_masks, 1)
    """
    return np.full((n_masks, 1), np.clip(_MEAN_SHARE + delta, 0.0, 1.0))


def rank_classes(scores, codes, admissible):
    """Order the classes that may be injected into each forget row, most likely first.

    Parameters
    ----------
    scores : ndarray of shape (n_forget, n_classes)
        Logits or log-probabilities of the original model, so that no two underflow to a tie.
    codes : ndarray of shape (n_forget,)
        True classes, which are left out.
    admissible : ndarray of shape (n_classes,) of bool
        Classes with retained rows.

    Returns
    -------
    list of ndarray
        Class indices of each row.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    return [
        classes[admissible[classes] & (classes != own)]
        for classes, own in zip(order, codes, strict=True)
    ]


def match_rows(ranking, retained_codes, n_hybrids, rng):
    """Draw the retained rows that are injected, each at most once while there are enough.

    Every class keeps a shuffled stock of its retained rows. A forget row walks down its ranking
    and takes one row of each class that has stock left, until it has enough; the k-th goes with
    the k-th mask. When too few classes of a ranking have stock left, the empty ones are filled up
    again.

    Parameters
    ----------
    ranking : list of ndarray
        Classes for each forget row, best first; all have retained rows.
    retained_codes : ndarray of shape (n_retained,)
        Classes of the retained rows.
    n_hybrids : int
        Hybrids of each forget row; no ranking is shorter.
    rng : RandomState

    Returns
    -------
    index : ndarray of shape (n_forget * n_hybrids, 3)
        Forget row, retained row and mask of each hybrid, as positions.
    exhausted : bool
        Whether some retained rows had to be used again.
    """
    rows_of = {c: np.flatnonzero(retained_codes == c) for c in np.unique(retained_codes)}
    stock = {c: list(rng.permutation(rows)) for c, rows in rows_of.items()}
    index, exhausted = [], False
    for forget_row, classes in enumerate(ranking):
        chosen = [c for c in classes if stock[c]][:n_hybrids]
        if len(chosen) < n_hybrids:
            exhausted = True
            stock.update((c, list(rng.permutation(rows_of[c]))) for c in classes if not stock[c])
            chosen = classes[:n_hybrids]
        index.extend((forget_row, stock[c].pop(), k) for k, c in enumerate(chosen))
    return np.asarray(index, dtype=np.int64).reshape(-1, 3), exhausted


def blend(forget_rows, retained_rows, masks):
    """Blend rows: ``masks * forget_rows + (1 - masks) * retained_rows``.

    Parameters
    ----------
    forget_rows, retained_rows : arrays or tensors of shape (n, *row_shape)
    masks : array or tensor, broadcastable to them

    Returns
    -------
    array or tensor of shape (n, *row_shape)
    """
    return masks * forget_rows + (1 - masks) * retained_rows
