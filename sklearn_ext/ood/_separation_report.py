"""Where the features of inliers and outliers point, beside the rows of the head."""

from torch import Tensor

from ._scores import cosines, max_probability, row_space_basis, row_space_share

_SURE = 0.99
_ALIGNED = 0.9


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
