"""Where the features of inliers and outliers point, beside the rows of the head."""

import torch
from torch import Tensor

from ..post_hoc._scores import max_logit, max_probability, negative_energy, unit_rows

_SURE = 0.99
_ALIGNED = 0.9
_RANK_TOLERANCE = 1e-6
# By the name that users give, each a sum of parts.
SCORE_NAMES = (
    *("rowspace", "msp", "energy", "maxlogit", "maxcos"),
    *("msp+cos", "msp+meancos", "msp+maxcos", "msp+rowspace"),
)


def cosines(features: Tensor, weight: Tensor) -> Tensor:
    r"""Cosines :math:`u \cdot v_c` of features with the rows of the head.

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
    """Orthonormal basis of the row space of a head.

    Parameters
    ----------
    weight : tensor of shape (C, d)

    Returns
    -------
    tensor of shape (d, rank)
        Columns are right singular vectors.
    """
    _, values, right = torch.linalg.svd(weight, full_matrices=False)
    return right[values > _RANK_TOLERANCE * values[0]].T


def row_space_share(features: Tensor, basis: Tensor) -> Tensor:
    r"""Length :math:`|Q^T u|` of the part of a unit feature that the head can see.

    Parameters
    ----------
    features : tensor of shape (n, d)
    basis : tensor of shape (d, rank)
        See :func:`row_space_basis`.

    Returns
    -------
    tensor of shape (n,)
        From 0 (orthogonal to every row, so that logits are the bias) to 1.
    """
    return torch.linalg.vector_norm(unit_rows(features) @ basis, dim=1)


def named_score(name: str, features: Tensor, weight: Tensor, bias: Tensor, basis: Tensor) -> Tensor:
    r"""Compute a score by its name, or a sum of scores with a plus between their names.

    "msp", "energy" and "maxlogit" are functions of the logits; "rowspace" is
    :func:`row_space_share`; "maxcos" is :math:`\max_c u \cdot v_c`, "cos"
    :math:`\sum_c |u \cdot v_c|` and "meancos" the same over C. "msp+meancos" is equation 6 of Wu et
    al. (2025), "msp+cos" what their code computes.

    Parameters
    ----------
    name : str
        One of ``SCORE_NAMES``.
    features : tensor of shape (n, d)
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)
    basis : tensor of shape (d, rank)
        See :func:`row_space_basis`.

    Returns
    -------
    tensor of shape (n,)
    """
    parts = {
        "msp": lambda: max_probability(features @ weight.T + bias),
        "energy": lambda: negative_energy(features @ weight.T + bias),
        "maxlogit": lambda: max_logit(features @ weight.T + bias),
        "rowspace": lambda: row_space_share(features, basis),
        "maxcos": lambda: cosines(features, weight).amax(dim=1),
        "cos": lambda: cosines(features, weight).abs().sum(dim=1),
        "meancos": lambda: cosines(features, weight).abs().mean(dim=1),
    }
    return torch.stack([parts[part]() for part in name.split("+")]).sum(dim=0)


def separation_report(
    features: Tensor, outlier_features: Tensor, weight: Tensor, bias: Tensor
) -> dict[str, float]:
    r"""Summarise how far features of outliers are turned away from the head.

    With unit features u, unit rows :math:`v_c` and an orthonormal basis Q of the row space,
    cosines are means of :math:`|u \cdot v_c|` over rows and classes, residuals are means of
    :math:`|u - Q Q^T u|`.

    Parameters
    ----------
    features : tensor of shape (n, d)
        Of inliers.
    outlier_features : tensor of shape (n_outliers, d)
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)

    Returns
    -------
    dict of str to float
        ``id_cosine``, ``outlier_cosine``, ``id_residual``, ``outlier_residual``, and
        ``outliers_like_id``: the share of outliers with a probability above 0.99 and a cosine
        above 0.9, as rows of a class have.
    """
    basis = row_space_basis(weight)
    sure = max_probability(outlier_features @ weight.T + bias) > _SURE
    aligned = cosines(outlier_features, weight).amax(dim=1) > _ALIGNED
    return {
        "id_cosine": float(cosines(features, weight).abs().mean()),
        "outlier_cosine": float(cosines(outlier_features, weight).abs().mean()),
        "id_residual": _mean_residual(features, basis),
        "outlier_residual": _mean_residual(outlier_features, basis),
        "outliers_like_id": float((sure & aligned).double().mean()),
    }


def _mean_residual(features, basis):
    return float((1.0 - row_space_share(features, basis).square()).clamp_min(0.0).sqrt().mean())
