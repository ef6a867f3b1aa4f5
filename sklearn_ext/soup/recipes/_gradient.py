r"""The mathematics of learned coefficients, as functions of arrays.

Ingredients :math:`w_1, \dots, w_N` are vectors of parameters whose entries belong to G groups. A
soup has coefficients :math:`\alpha \in R^{G \times N}` (`coef`) with :math:`\sum_i \alpha_{gi} = 1`
and weights :math:`w_g = \sum_i \alpha_{gi} w_{ig}`. Take an origin c in the affine hull of the
ingredients and the directions :math:`d_i = w_i - c` of a block B of ingredients. Every step y then
gives another soup:

.. math:: w_g = c_g + \sum_{i \in B} y_{gi} d_{ig} .

One backward pass through the one combined network gives :math:`q = \nabla_w L`, and
:func:`coefficient_gradient` turns q into the gradient with respect to y. The two learned recipes
differ only in the free variables z behind y: a hyperplane learned soup (MEHL-Soup) scales them,
:math:`y = s \circ z` (`scales * z`); a learned soup takes :math:`y_g = \mathrm{softmax}(z_g)`.
:func:`hyperplane_gradient` and :func:`softmax_gradient` complete the gradient with respect to z.
"""

from collections.abc import Sequence

import torch

from ..ingredients import as_real
from ._directions import Directions

_SMALLEST_NORM = 1e-12


def coefficient_gradient(
    gradients: Sequence[torch.Tensor],
    directions: Directions,
    group_of: torch.Tensor,
    n_groups: int,
    *,
    clip_norm: float | None = None,
) -> torch.Tensor:
    r"""Compute the gradient of the loss with respect to the coefficients of a block.

    With the gradient q with respect to the weights of the combined network, the directions
    :math:`d_i` of the ingredients, and the parameter tensors :math:`S_g` of group g,

    .. math:: \frac{\partial L}{\partial y_{gi}} = \sum_{p \in S_g} \langle q_p, d_{ip} \rangle .

    Parameters
    ----------
    gradients : sequence of T tensors
        The gradient q, with one tensor for each parameter tensor that is mixed.
    directions : StreamedDirections or StoredDirections
        The directions of the b ingredients of the block.
    group_of : tensor of int64 of shape (T,)
        Index of the group of each parameter tensor.
    n_groups : int
        Number G of groups.
    clip_norm : float or None, default=None
        Maximum norm of q as a whole. A longer q is scaled down to it before it is projected. None
        disables clipping.

    Returns
    -------
    tensor of float64 of shape (G, b)
        The gradient with respect to y.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.soup import StoredDirections, coefficient_gradient
    >>> origin = [torch.zeros(2), torch.zeros(1)]
    >>> ingredients = [[torch.tensor([1.0, 0.0]), torch.tensor([5.0])],
    ...                [torch.tensor([0.0, 1.0]), torch.tensor([6.0])]]
    >>> directions = StoredDirections(origin, ingredients)
    >>> gradients = [torch.tensor([3.0, 4.0]), torch.tensor([1.0])]
    >>> coefficient_gradient(gradients, directions, torch.tensor([0, 0]), 1)
    tensor([[ 8., 10.]], dtype=torch.float64)
    """
    gradients = [as_real(q) for q in gradients]
    products = directions.inner_products(gradients)
    gradient = sum_by_group(products, group_of, n_groups)
    if clip_norm is None:
        return gradient
    norms = torch.stack([q.norm().double().cpu() for q in gradients])
    return gradient * (clip_norm / max(float(norms.norm()), clip_norm))


def hyperplane_gradient(scales: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    r"""Pull a gradient back to the free variables of a hyperplane learned soup.

    With :math:`h = \partial L / \partial y` and :math:`y = s \circ z`,

    .. math:: \frac{\partial L}{\partial z_{gi}} = s_{gi} h_{gi} .

    Parameters
    ----------
    scales : tensor of shape (G, b)
        The scales s from :func:`direction_scales`.
    gradient : tensor of shape (G, b)
        The gradient h from :func:`coefficient_gradient`.

    Returns
    -------
    tensor of shape (G, b)
    """
    return scales * gradient


def softmax_gradient(alpha: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    r"""Pull a gradient back through a softmax.

    With :math:`h = \partial L / \partial \alpha` and :math:`\alpha_g = \mathrm{softmax}(z_g)`,

    .. math:: \frac{\partial L}{\partial z_{gi}}
        = \alpha_{gi} \Bigl(h_{gi} - \sum_j \alpha_{gj} h_{gj}\Bigr) .

    Parameters
    ----------
    alpha : tensor of shape (G, N)
        Coefficients.
    gradient : tensor of shape (G, N)
        The gradient h.

    Returns
    -------
    tensor of shape (G, N)
    """
    return alpha * (gradient - (alpha * gradient).sum(dim=1, keepdim=True))


def coefficients_after_step(
    coef: torch.Tensor, block: Sequence[int], step: torch.Tensor
) -> torch.Tensor:
    r"""Return the coefficients of a soup after a step from the soup that `coef` describes.

    The origin of the step is itself a combination of the ingredients, so the result is exact:

    .. math:: \alpha_g \leftarrow \bigl(1 - \textstyle\sum_{i \in B} y_{gi}\bigr) \alpha_g
        + \textstyle\sum_{i \in B} y_{gi} e_i .

    Parameters
    ----------
    coef : tensor of shape (G, N)
        Coefficients :math:`\alpha` of the origin.
    block : sequence of int
        The ingredients B.
    step : tensor of shape (G, b)
        The step y.

    Returns
    -------
    tensor of shape (G, N)
    """
    out = coef * (1.0 - step.sum(dim=1, keepdim=True))
    out[:, block] += step
    return out


def direction_scales(norms: torch.Tensor, scale: str) -> torch.Tensor:
    r"""Return the change of y per unit of the free variables, for each direction.

    With ``"raw"`` it is 1. With ``"unit"`` it is :math:`1 / \lVert d_{ig} \rVert`, so that the
    learning rate is a distance between weights, as in the published code. With ``"mean"`` it is
    :math:`\overline{\lVert d_g \rVert} / \lVert d_{ig} \rVert`, with the mean over the block, so
    that the learning rate is a change in a coefficient. Where a direction has length 0, because its
    tensor is frozen or its ingredient is the origin, the scale is 0 and the direction is unused.

    Parameters
    ----------
    norms : tensor of shape (G, b)
        :math:`\lVert d_{ig} \rVert`.
    scale : {"mean", "unit", "raw"}

    Returns
    -------
    tensor of shape (G, b)
    """
    usable = norms > _SMALLEST_NORM
    safe = torch.where(usable, norms, 1.0)
    scales = {
        "raw": torch.ones_like(norms),
        "unit": 1.0 / safe,
        "mean": norms.mean(dim=1, keepdim=True) / safe,
    }[scale]
    return torch.where(usable, scales, 0.0)


def sum_by_group(values: torch.Tensor, group_of: torch.Tensor, n_groups: int) -> torch.Tensor:
    """Sum the values of the tensors in each group.

    Parameters
    ----------
    values : tensor of shape (T, b)
        One row per parameter tensor.
    group_of : tensor of int64 of shape (T,)
        Index of the group of each parameter tensor.
    n_groups : int
        Number G of groups.

    Returns
    -------
    tensor of shape (G, b)
    """
    return values.new_zeros(n_groups, values.shape[1]).index_add_(0, group_of, values)
