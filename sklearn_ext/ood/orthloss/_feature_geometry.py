r"""Directions of features relative to the rows of the head, and scores made from them.

Features :math:`z \in R^d` are the input of the last linear layer, the head, with logits
:math:`l = W z + b` and rows :math:`w_c`. Unit vectors are :math:`u = z / |z|` and
:math:`v_c = w_c / |w_c|`.
"""

import torch
from torch import Tensor

from ...neural import Head
from .._scores import energy_score, max_logit_score, msp_score, unit_rows

# The values of the parameter `ood_score`; a plus adds two scores.
SCORE_NAMES = (
    *("rowspace", "msp", "energy", "maxlogit", "maxcos"),
    *("msp+cos", "msp+meancos", "msp+maxcos", "msp+rowspace"),
)

_RANK_TOLERANCE = 1e-6  # singular values below this fraction of the largest one count as zero
_CONFIDENT = 0.99
_ALIGNED = 0.9


def cosines(features: Tensor, weight: Tensor) -> Tensor:
    r"""Return the cosines :math:`u \cdot v_c` of features with the rows of the head.

    Parameters
    ----------
    features : tensor of shape (n, d)
    weight : tensor of shape (C, d)

    Returns
    -------
    tensor of shape (n, C)
        Zero for a feature of length zero.
    """
    return unit_rows(features) @ unit_rows(weight).T


def row_space_basis(weight: Tensor) -> Tensor:
    """Return an orthonormal basis of the row space of a head.

    Parameters
    ----------
    weight : tensor of shape (C, d)

    Returns
    -------
    tensor of shape (d, rank)
        The columns are right singular vectors.
    """
    _, values, right = torch.linalg.svd(weight, full_matrices=False)
    return right[values > _RANK_TOLERANCE * values[0]].T


def row_space_score(features: Tensor, basis: Tensor) -> Tensor:
    r"""Return the length :math:`|Q^T u|` of a unit feature's projection onto the row space.

    Parameters
    ----------
    features : tensor of shape (n, d)
    basis : tensor of shape (d, rank)
        Orthonormal basis Q of the row space of the head, such as
        ``OrthLossOODDetector.row_basis_``.

    Returns
    -------
    tensor of shape (n,)
        Between 0 and 1. It is 0 for a feature that is orthogonal to every row, so that the logits
        are the bias.

    See Also
    --------
    OrthLossOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import row_space_score
    >>> features = torch.tensor([[0.0, 0.0, 2.0], [3.0, 0.0, 4.0]])
    >>> row_space_score(features, torch.eye(3)[:, :2])
    tensor([0.0000, 0.6000])
    """
    return torch.linalg.vector_norm(unit_rows(features) @ basis, dim=1)


def named_score(name: str, features: Tensor, head: Head, basis: Tensor) -> Tensor:
    r"""Compute the score of a given name, or the sum of scores joined by a plus.

    "msp", "energy" and "maxlogit" are functions of the logits, and "rowspace" is
    :func:`row_space_score`. "maxcos" is :math:`\max_c u \cdot v_c`, "cos" is
    :math:`\sum_c |u \cdot v_c|`, and "meancos" is "cos" divided by C. "msp+meancos" is equation 6
    of Wu et al. (2025); their code computes "msp+cos".

    Parameters
    ----------
    name : str
        One of ``SCORE_NAMES``.
    features : tensor of shape (n, d)
    head : Head
    basis : tensor of shape (d, rank)
        The result of :func:`row_space_basis`.

    Returns
    -------
    tensor of shape (n,)
    """
    weight, _ = head.tensors(features.device)
    scores = {
        "msp": lambda: msp_score(head.logits(features)),
        "energy": lambda: energy_score(head.logits(features)),
        "maxlogit": lambda: max_logit_score(head.logits(features)),
        "rowspace": lambda: row_space_score(features, basis),
        "maxcos": lambda: cosines(features, weight).amax(dim=1),
        "cos": lambda: cosines(features, weight).abs().sum(dim=1),
        "meancos": lambda: cosines(features, weight).abs().mean(dim=1),
    }
    return torch.stack([scores[part]() for part in name.split("+")]).sum(dim=0)


def separation_diagnostics(
    features: Tensor, outlier_features: Tensor, weight: Tensor, bias: Tensor
) -> dict[str, float]:
    r"""Summarize how far the features of outliers are turned away from the head.

    Cosines are means of :math:`|u \cdot v_c|` over samples and classes. Residuals are means of
    :math:`|u - Q Q^T u|`, where Q is an orthonormal basis of the row space.

    Parameters
    ----------
    features : tensor of shape (n, d)
        Features of inliers.
    outlier_features : tensor of shape (n_outliers, d)
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)

    Returns
    -------
    dict of str to float
        ``id_cosine``, ``outlier_cosine``, ``id_residual``, ``outlier_residual`` and
        ``outliers_like_id``: the fraction of outliers that look like samples of a class, with a
        probability above 0.99 and a cosine above 0.9.
    """
    basis = row_space_basis(weight)
    confident = msp_score(outlier_features @ weight.T + bias) > _CONFIDENT
    aligned = cosines(outlier_features, weight).amax(dim=1) > _ALIGNED
    return {
        "id_cosine": float(cosines(features, weight).abs().mean()),
        "outlier_cosine": float(cosines(outlier_features, weight).abs().mean()),
        "id_residual": _mean_residual(features, basis),
        "outlier_residual": _mean_residual(outlier_features, basis),
        "outliers_like_id": float((confident & aligned).double().mean()),
    }


def _mean_residual(features: Tensor, basis: Tensor) -> float:
    return float((1.0 - row_space_score(features, basis).square()).clamp_min(0.0).sqrt().mean())
