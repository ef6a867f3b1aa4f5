r"""Scores of a row from its logits, its features and the head: higher is more in-distribution.

Features :math:`z \in R^d` are the input of the last linear layer, logits are
:math:`l = W z + b`; :math:`u = z / |z|` and :math:`v_c = w_c / |w_c|` are unit vectors.
"""

import torch
from torch import Tensor

# Shorter features have no direction: their unit vector is zero, and so is its gradient.
SHORTEST = 1e-12
_ENTRIES = 2**24  # of the largest matrix of cosines, 128 MB


def unit_rows(Z: Tensor) -> Tensor:
    """Rows over their norms; a row of zeros stays as it is.

    Parameters
    ----------
    Z : tensor of shape (n, d)

    Returns
    -------
    tensor of shape (n, d)
    """
    norms = torch.linalg.vector_norm(Z, dim=1, keepdim=True)
    return torch.where(norms > SHORTEST, Z / norms.clamp_min(SHORTEST), torch.zeros_like(Z))


def max_probability(logits: Tensor) -> Tensor:
    r"""Largest softmax probability, :math:`\max_c p_c` (Hendrycks and Gimpel, 2017).

    Parameters
    ----------
    logits : tensor of shape (n, C)

    Returns
    -------
    tensor of shape (n,)
    """
    return torch.softmax(logits, dim=1).amax(dim=1)


def max_logit(logits: Tensor) -> Tensor:
    r"""Largest logit, :math:`\max_c l_c` (Hendrycks et al., 2022).

    Parameters
    ----------
    logits : tensor of shape (n, C)

    Returns
    -------
    tensor of shape (n,)
    """
    return logits.amax(dim=1)


def negative_energy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Soft maximum of the logits, :math:`T \log \sum_c e^{l_c / T}` (Liu et al., 2020, eq. 4).

    Parameters
    ----------
    logits : tensor of shape (n, C)
    temperature : float, default=1.0

    Returns
    -------
    tensor of shape (n,)
    """
    return temperature * torch.logsumexp(logits / temperature, dim=1)


def clipped_logits(features: Tensor, weight: Tensor, bias: Tensor, ceiling: float) -> Tensor:
    r"""Logits of rectified features, :math:`W \min(z, c) + b` (Sun et al., 2021, eq. 2).

    Parameters
    ----------
    features : tensor of shape (n, d)
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)
    ceiling : float
        c, as a rule a high quantile of the features of inliers.

    Returns
    -------
    tensor of shape (n, C)
    """
    return features.clamp_max(ceiling) @ weight.T + bias


def class_means(features: Tensor, codes: Tensor, n_classes: int) -> Tensor:
    """Mean feature of each class.

    Parameters
    ----------
    features : tensor of shape (n, d)
    codes : int64 tensor of shape (n,)
        Every class has a row.
    n_classes : int

    Returns
    -------
    tensor of shape (n_classes, d)
    """
    sums = features.new_zeros(n_classes, features.shape[1]).index_add_(0, codes, features)
    return sums / torch.bincount(codes, minlength=n_classes)[:, None]


def shrunk_precision_root(residuals: Tensor, shrinkage: float) -> Tensor:
    r"""Matrix R with :math:`R R^T = ((1 - \rho) \Sigma + \rho \, tr(\Sigma) / d \; I)^{-1}`.

    Parameters
    ----------
    residuals : tensor of shape (n, d)
        Features less the means of their classes; :math:`\Sigma` is their covariance about zero.
    shrinkage : float
        :math:`\rho` in [0, 1]. Directions without variance get none of the weight if it is 0.

    Returns
    -------
    tensor of shape (d, d)
    """
    covariance = residuals.T @ residuals / len(residuals)
    values, vectors = torch.linalg.eigh(covariance)
    values = (1.0 - shrinkage) * values.clamp_min(0.0) + shrinkage * values.mean().clamp_min(0.0)
    kept = values > values.max() * len(values) * torch.finfo(values.dtype).eps
    return (
        vectors
        * torch.where(kept, values.clamp_min(torch.finfo(values.dtype).tiny), torch.inf).rsqrt()
    )


def negative_mahalanobis(features: Tensor, means: Tensor, root: Tensor) -> Tensor:
    r"""Least squared Mahalanobis distance to a class mean, with a minus (Lee et al., 2018, eq. 2).

    .. math::
        s(z) = -\min_c (z - \mu_c)^T R R^T (z - \mu_c)

    Parameters
    ----------
    features : tensor of shape (n, d)
    means : tensor of shape (C, d)
    root : tensor of shape (d, d)
        See :func:`shrunk_precision_root`.

    Returns
    -------
    tensor of shape (n,)
    """
    origin = means.mean(dim=0)  # products are taken of small numbers, and once for all classes
    whitened, centres = (features - origin) @ root, (means - origin) @ root
    distances = torch.cdist(whitened, centres, compute_mode="donot_use_mm_for_euclid_dist")
    return -distances.amin(dim=1).square()


def logit_origin(weight: Tensor, bias: Tensor) -> Tensor:
    """Shortest feature whose logits are nearest to zero, :math:`-W^+ b` (Wang et al., 2022).

    Parameters
    ----------
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)

    Returns
    -------
    tensor of shape (d,)
    """
    return -torch.linalg.pinv(weight) @ bias


def residual_basis(centred: Tensor, n_components: int) -> Tensor:
    r"""Directions outside of the principal space of features.

    Parameters
    ----------
    centred : tensor of shape (n, d)
        Features less the origin.
    n_components : int
        Dimension D of the principal space.

    Returns
    -------
    tensor of shape (d, d - D)
        Eigenvectors of the d - D smallest eigenvalues of the second moment.
    """
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    return vectors[:, : centred.shape[1] - n_components]


def virtual_logit_score(logits: Tensor, residuals: Tensor, scale: float) -> Tensor:
    r"""Soft maximum of the logits less the virtual logit (Wang et al., 2022, eq. 7).

    .. math::
        s(z) = \log \sum_c e^{l_c} - \alpha |R^T (z - o)|

    It orders rows as the softmax probability of the virtual logit does, and does not saturate.

    Parameters
    ----------
    logits : tensor of shape (n, C)
    residuals : tensor of shape (n,)
        Lengths :math:`|R^T (z - o)|`.
    scale : float
        :math:`\alpha`, mean largest logit of inliers over their mean residual.

    Returns
    -------
    tensor of shape (n,)
    """
    return negative_energy(logits) - scale * residuals


def negative_kth_distance(features: Tensor, bank: Tensor, n_neighbors: int) -> Tensor:
    r"""Distance of a unit feature to its k-th nearest of a bank, with a minus (Sun et al., 2022).

    :math:`s(z) = -\sqrt{2 - 2 c_{(k)}}` with :math:`c_{(k)}` the k-th largest of the cosines
    :math:`u \cdot u_i`.

    Parameters
    ----------
    features : tensor of shape (n, d)
    bank : tensor of shape (m, d)
        Unit vectors :math:`u_i`.
    n_neighbors : int
        k, at most m.

    Returns
    -------
    tensor of shape (n,)
    """
    n_rows = max(1, _ENTRIES // len(bank))
    kth = [
        (part @ bank.T).topk(n_neighbors, dim=1, sorted=True).values[:, -1]
        for part in unit_rows(features).split(n_rows)
    ]
    return -(2.0 - 2.0 * torch.cat(kth)).clamp_min(0.0).sqrt()


def principal_dimension(n_features: int) -> int:
    """Dimension of the principal space that the authors of ViM use (Wang et al., 2022)."""
    if n_features >= 2048:
        return 1000
    return 512 if n_features >= 768 else n_features // 2
