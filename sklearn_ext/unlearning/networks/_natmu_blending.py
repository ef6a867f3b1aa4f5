r"""Blends of samples to forget with retained samples, as NatMU trains on them.

The blend of a sample to forget :math:`x_u` with a retained sample :math:`x_r` is

.. math::
    B_k(x_u, x_r) = m_k \odot x_u + (1 - m_k) \odot x_r ,

with a mask :math:`m_k \in [0, 1]` over the positions of an image, the same for all channels. A
blend carries the label of the retained sample, which is correct for a part of it.
"""

from typing import TypeVar

import numpy as np
import torch

from ...utils._typing import BoolArray, FloatArray, IntArray
from ._net_data import NetData

_MEAN_WEIGHT = 0.47  # mean of the gradual masks at side lengths of 28 to 32
_N_GRADUAL = 4

ArrayOrTensor = TypeVar("ArrayOrTensor", FloatArray, torch.Tensor)


def tent(length: int) -> FloatArray:
    r"""Return the profile that rises from 0 to the middle and falls back to 0.

    With :math:`b = \lfloor S/2 \rfloor` for a length S, an even profile is
    :math:`(0, 1/b, \ldots, (b-1)/b, (b-1)/b, \ldots, 1/b, 0)`; an odd one interpolates
    :math:`(0, (b-1)/b, 0)` at S equally spaced points.

    Parameters
    ----------
    length : int
        Number of positions S.

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


def gradual_masks(height: int, width: int, n_masks: int, delta: float) -> FloatArray:
    r"""Return NatMU's masks for images: the weights of the sample to forget at every position.

    .. math::
        m_1[i, j] = t_H[i], \quad m_2[i, j] = t_W[j], \quad
        m_3[i, j] = \max t_H - t_H[i], \quad m_4[i, j] = \max t_W - t_W[j],

    with the :func:`tent` t, then shifted by delta and clipped to [0, 1]. Further masks repeat
    these four.

    Parameters
    ----------
    height : int
        Height of the images in pixels.
    width : int
        Width of the images in pixels.
    n_masks : int
        Number of masks.
    delta : float
        Shift of the weights.

    Returns
    -------
    ndarray of shape (n_masks, height, width)

    Examples
    --------
    >>> from sklearn_ext.unlearning.networks import gradual_masks
    >>> gradual_masks(4, 4, 1, delta=0.0)[0, :, 0]
    array([0. , 0.5, 0.5, 0. ])
    """
    rows = np.repeat(tent(height)[:, None], width, axis=1)
    columns = np.repeat(tent(width)[None, :], height, axis=0)
    four = np.stack([rows, columns, rows.max() - rows, columns.max() - columns])
    return np.clip(four[np.arange(n_masks) % _N_GRADUAL] + delta, 0.0, 1.0)


def uniform_masks(n_masks: int, delta: float) -> FloatArray:
    """Return one weight for all features, ``0.47 + delta``, where features have no order.

    Parameters
    ----------
    n_masks : int
        Number of masks.
    delta : float
        Shift of the weights.

    Returns
    -------
    ndarray of shape (n_masks, 1)
    """
    return np.full((n_masks, 1), np.clip(_MEAN_WEIGHT + delta, 0.0, 1.0))


def rank_classes(scores: FloatArray, codes: IntArray, admissible: BoolArray) -> list[IntArray]:
    """Rank the classes that may be blended into each sample to forget, most likely class first.

    Parameters
    ----------
    scores : ndarray of shape (n_forget, n_classes)
        Outputs of the original model, which rank its classes.
    codes : ndarray of shape (n_forget,)
        Indices of the true classes, which are left out.
    admissible : ndarray of shape (n_classes,) of bool
        Classes that have retained samples.

    Returns
    -------
    list of ndarray
        Class indices for each sample.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    return [
        classes[admissible[classes] & (classes != own)]
        for classes, own in zip(order, codes, strict=True)
    ]


def match_samples(
    ranking: list[IntArray],
    retained_codes: IntArray,
    n_blends: int,
    rng: np.random.RandomState,
) -> tuple[IntArray, bool]:
    """Draw the retained samples to blend in, each at most once while there are enough.

    Every class has a shuffled stock of its retained samples. A sample to forget goes through its
    ranking and takes one retained sample from each class with remaining stock, until it has
    `n_blends` of them; the k-th is used with the k-th mask. When too few classes of a ranking have
    stock left, the empty ones are refilled.

    Parameters
    ----------
    ranking : list of ndarray
        Class indices for each sample to forget, best first; all classes have retained samples.
    retained_codes : ndarray of shape (n_retained,)
        Class indices of the retained samples.
    n_blends : int
        Blends of each sample to forget; no ranking is shorter.
    rng : numpy.random.RandomState
        Shuffles the stock.

    Returns
    -------
    index : ndarray of shape (n_forget * n_blends, 3)
        Sample to forget, retained sample and mask of each blend, as positions.
    exhausted : bool
        Whether some retained samples had to be used again.
    """
    members = {c: np.flatnonzero(retained_codes == c) for c in np.unique(retained_codes)}
    stock = {c: list(rng.permutation(samples)) for c, samples in members.items()}
    index: list[tuple[int, int, int]] = []
    exhausted = False
    for sample, classes in enumerate(ranking):
        chosen = [c for c in classes if stock[c]][:n_blends]
        if len(chosen) < n_blends:
            exhausted = True
            stock.update((c, list(rng.permutation(members[c]))) for c in classes if not stock[c])
            chosen = list(classes[:n_blends])
        index.extend((sample, stock[c].pop(), k) for k, c in enumerate(chosen))
    return np.asarray(index, dtype=np.int64).reshape(-1, 3), exhausted


def blend(forget: ArrayOrTensor, retained: ArrayOrTensor, masks: ArrayOrTensor) -> ArrayOrTensor:
    r"""Return the blends :math:`m \odot x_u + (1 - m) \odot x_r`.

    Parameters
    ----------
    forget : array or tensor of shape (n, ...)
        Samples to forget.
    retained : array or tensor of shape (n, ...)
        Retained samples.
    masks : array or tensor, broadcastable to them
        Weights of the samples to forget.

    Returns
    -------
    array or tensor of shape (n, ...)

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.unlearning.networks import blend
    >>> blend(np.ones((1, 2)), np.zeros((1, 2)), np.array([[0.25, 0.5]]))
    array([[0.25, 0.5 ]])
    """
    return masks * forget + (1 - masks) * retained


def blended_samples(
    data: NetData,
    index: torch.Tensor,
    masks: torch.Tensor,
    limits: tuple[float, float] | None,
) -> torch.Tensor:
    """Return blends of samples to forget with retained samples, clipped to a range.

    Parameters
    ----------
    data : NetData
        The samples.
    index : int64 tensor of shape (n_blends, 3)
        Sample to forget, retained sample and mask of each blend, as :func:`match_samples` returns
        them.
    masks : tensor, broadcastable to (n_masks, ...)
        Weights of the samples to forget.
    limits : pair of float or None
        Range of the blends; with None, blends are not clipped.

    Returns
    -------
    tensor of shape (n_blends, ...)
    """
    forget, retained, mask = index.T
    samples, others = data.inputs(data.forget[forget]), data.inputs(data.retain[retained])
    blends = blend(samples, others, masks[mask])
    return blends if limits is None else blends.clamp(*limits)
