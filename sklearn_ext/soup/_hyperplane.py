r"""Coordinates on the affine hull of the ingredients.

Ingredients :math:`w_1, \dots, w_N` are vectors of parameters whose entries belong to G groups. A
soup has coefficients :math:`\alpha \in R^{G \times N}` with :math:`\sum_i \alpha_{gi} = 1` and the
weights :math:`w_g = \sum_i \alpha_{gi} w_{ig}`. Around an origin c of the hull, and with the
directions :math:`d_i = w_i - c` of a block B of ingredients, every step y gives another soup:

.. math:: w_g = c_g + \sum_{i \in B} y_{gi} d_{ig} .

With :math:`q = \nabla_w L` from one backward pass through the one combined network, the gradient is

.. math:: \frac{\partial L}{\partial y_{gi}} = h_{gi} = \langle q_g, d_{ig} \rangle .

Learned soups differ in nothing but what the free variables z are that a step y depends on: scaled
steps (hyperplane) or logits of a softmax (simplex; there :math:`\sum_i y_{gi} = 1`, and any origin
cancels). Arrays of one entry a group and ingredient of the block have shape (G, b).
"""

from dataclasses import dataclass

import torch

_SMALLEST_NORM = 1e-12


def recombine(coef, block, step):
    r"""Return the coefficients after a step from the soup that they describe.

    .. math:: \alpha_g \leftarrow \bigl(1 - \textstyle\sum_{i \in B} y_{gi}\bigr) \alpha_g
        + \textstyle\sum_{i \in B} y_{gi} e_i ,

    which is exact: the origin of the step is a combination of ingredients itself.

    Parameters
    ----------
    coef : tensor of shape (G, N)
        Coefficients :math:`\alpha` of the origin.
    block : sequence of int
        The ingredients B.
    step : tensor of shape (G, b)
        y.

    Returns
    -------
    tensor of shape (G, N)
    """
    out = coef * (1.0 - step.sum(dim=1, keepdim=True))
    out[:, block] += step
    return out


def direction_scales(norms, scale):
    r"""Length of a unit of the free variables along each direction, in units of the step.

    ``"raw"``: 1. ``"unit"``: :math:`1 / \lVert d_{ig} \rVert`, so that the step size is a distance
    between weights (published code). ``"mean"``: :math:`\overline{\lVert d_g \rVert} / \lVert
    d_{ig} \rVert` with the mean over the block, so that it is a change of a coefficient. A
    direction of no length, of a frozen tensor or of the origin itself, gets 0 and stays unused.

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


def sum_by_group(values, group_of, n_groups):
    """Sum the rows of the tensors that belong to one group.

    Parameters
    ----------
    values : tensor of shape (T, b)
        One row a parameter tensor.
    group_of : tensor of int64 of shape (T,)
        Number of each tensor's group.
    n_groups : int
        G.

    Returns
    -------
    tensor of shape (G, b)
    """
    return values.new_zeros(n_groups, values.shape[1]).index_add_(0, group_of, values)


@dataclass(frozen=True)
class HyperplaneCoordinates:
    r"""Free steps: :math:`y = s \circ z`, so that :math:`\partial L / \partial z = s \circ h`.

    The sum of the coefficients is 1 for every z, and their signs are free.

    Attributes
    ----------
    scales : tensor of shape (G, b)
        s.
    """

    scales: torch.Tensor

    def start(self):
        """Return z of the origin."""
        return torch.zeros_like(self.scales)

    def step(self, z):
        """Return y at z."""
        return self.scales * z

    def pull_back(self, z, h):
        """Return the gradient with respect to z, given h, that with respect to y."""
        return self.scales * h


@dataclass(frozen=True)
class SimplexCoordinates:
    r"""Weights of a softmax: :math:`y_g = \mathrm{softmax}(z_g)`.

    :math:`\partial L / \partial z_{gi} = y_{gi} (h_{gi} - \sum_j y_{gj} h_{gj})`. Coefficients
    are positive and sum to 1; z = 0 is the uniform soup.

    Attributes
    ----------
    shape : tuple of int
        (G, b).
    """

    shape: tuple[int, int]

    def start(self):
        """Return z of the uniform soup."""
        return torch.zeros(self.shape, dtype=torch.float64)

    def step(self, z):
        """Return y at z."""
        return z.softmax(dim=1)

    def pull_back(self, z, h):
        """Return the gradient with respect to z, given h, that with respect to y."""
        y = z.softmax(dim=1)
        return y * (h - (y * h).sum(dim=1, keepdim=True))
