r"""Scores from the logits, the features and the head of a classifier: higher is in-distribution.

Features :math:`z \in R^d` are the input of the last linear layer, the head. Its logits are
:math:`l = W z + b`, and :math:`u = z / |z|` is a unit feature.
"""

import torch
from torch import Tensor

# A shorter vector has no direction: its unit vector is zero, and so is the gradient.
_SHORTEST = 1e-12
_ENTRIES = 2**24  # limit on the size of a matrix of cosines, 128 MB


def unit_rows(Z: Tensor) -> Tensor:
    """Divide each row by its norm; a row of zeros stays zero.

    Parameters
    ----------
    Z : tensor of shape (n, d)

    Returns
    -------
    tensor of shape (n, d)
    """
    norms = torch.linalg.vector_norm(Z, dim=1, keepdim=True)
    return torch.where(norms > _SHORTEST, Z / norms.clamp_min(_SHORTEST), torch.zeros_like(Z))


def msp_score(logits: Tensor) -> Tensor:
    r"""Return the maximum softmax probability, :math:`\max_c p_c` (Hendrycks and Gimpel, 2017).

    Parameters
    ----------
    logits : tensor of shape (n, C)

    Returns
    -------
    tensor of shape (n,)
        Between 1 / C and 1.

    See Also
    --------
    MSPOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import msp_score
    >>> msp_score(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    tensor([0.5000, 0.8808])
    """
    return torch.softmax(logits, dim=1).amax(dim=1)


def max_logit_score(logits: Tensor) -> Tensor:
    r"""Return the largest logit, :math:`\max_c l_c` (Hendrycks et al., 2022).

    Parameters
    ----------
    logits : tensor of shape (n, C)

    Returns
    -------
    tensor of shape (n,)

    See Also
    --------
    MaxLogitOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import max_logit_score
    >>> max_logit_score(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    tensor([0., 2.])
    """
    return logits.amax(dim=1)


def energy_score(logits: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Return the negative energy, :math:`T \log \sum_c e^{l_c / T}` (Liu et al., 2020, eq. 4).

    Parameters
    ----------
    logits : tensor of shape (n, C)
    temperature : float, default=1.0
        :math:`T`.

    Returns
    -------
    tensor of shape (n,)
        At least the largest logit, which is the limit of small temperatures.

    See Also
    --------
    EnergyOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import energy_score
    >>> energy_score(torch.tensor([[0.0, 0.0], [2.0, 0.0]]))
    tensor([0.6931, 2.1269])
    """
    return temperature * torch.logsumexp(logits / temperature, dim=1)


def react_score(features: Tensor, weight: Tensor, bias: Tensor, clip_value: float) -> Tensor:
    r"""Return the negative energy of rectified features (Sun et al., 2021, eq. 2).

    The logits are :math:`W \min(z, c) + b`.

    Parameters
    ----------
    features : tensor of shape (n, d)
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)
    clip_value : float
        :math:`c`, usually a high quantile of the features of inliers.

    Returns
    -------
    tensor of shape (n,)

    See Also
    --------
    ReActOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import react_score
    >>> features = torch.tensor([[1.0, 0.0], [9.0, 0.0]])
    >>> react_score(features, torch.eye(2), torch.zeros(2), clip_value=2.0)
    tensor([1.3133, 2.1269])
    """
    return energy_score(features.clamp_max(clip_value) @ weight.T + bias)


def knn_score(features: Tensor, unit_features: Tensor, n_neighbors: int) -> Tensor:
    r"""Return the negative distance of a unit feature to its k-th nearest neighbor.

    The score is :math:`s(z) = -\sqrt{2 - 2 c_{(k)}}` (Sun et al., 2022), where :math:`c_{(k)}` is
    the k-th largest of the cosines :math:`u \cdot u_i`.

    Parameters
    ----------
    features : tensor of shape (n, d)
    unit_features : tensor of shape (m, d)
        Unit features :math:`u_i` of the training samples.
    n_neighbors : int
        k, at most m.

    Returns
    -------
    tensor of shape (n,)
        Between -2 and 0.

    See Also
    --------
    KNNOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import knn_score
    >>> knn_score(torch.tensor([[2.0, 0.0]]), torch.eye(2), n_neighbors=2)
    tensor([-1.4142])
    """
    block = max(1, _ENTRIES // len(unit_features))
    kth = [
        (part @ unit_features.T).topk(n_neighbors, dim=1, sorted=True).values[:, -1]
        for part in unit_rows(features).split(block)
    ]
    return -(2.0 - 2.0 * torch.cat(kth)).clamp_min(0.0).sqrt()


def mahalanobis_score(features: Tensor, means: Tensor, precision_root: Tensor) -> Tensor:
    r"""Return the negative squared Mahalanobis distance to the nearest class mean.

    .. math::
        s(z) = -\min_c (z - \mu_c)^T R R^T (z - \mu_c)

    This is equation 2 of Lee et al. (2018).

    Parameters
    ----------
    features : tensor of shape (n, d)
    means : tensor of shape (C, d)
        Class means :math:`\mu_c`.
    precision_root : tensor of shape (d, d)
        :math:`R`, a square root of the precision matrix shared by the classes.

    Returns
    -------
    tensor of shape (n,)

    See Also
    --------
    MahalanobisOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import mahalanobis_score
    >>> means = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    >>> mahalanobis_score(torch.tensor([[4.0, 3.0]]), means, torch.eye(2))
    tensor([-9.])
    """
    # Centering keeps the numbers in the products small, and is done once for all classes.
    origin = means.mean(dim=0)
    whitened, centers = (features - origin) @ precision_root, (means - origin) @ precision_root
    distances = torch.cdist(whitened, centers, compute_mode="donot_use_mm_for_euclid_dist")
    return -distances.amin(dim=1).square()


def vim_score(logits: Tensor, residuals: Tensor, scale: float) -> Tensor:
    r"""Return the negative energy of the logits minus the virtual logit (Wang et al., 2022, eq. 7).

    .. math::
        s(z) = \log \sum_c e^{l_c} - \alpha |R^T (z - o)|

    It ranks samples as the softmax probability of the virtual logit does, but does not saturate.

    Parameters
    ----------
    logits : tensor of shape (n, C)
    residuals : tensor of shape (n,)
        Lengths :math:`|R^T (z - o)|` of the features outside of the principal space.
    scale : float
        :math:`\alpha`, the mean largest logit of inliers divided by their mean residual.

    Returns
    -------
    tensor of shape (n,)

    See Also
    --------
    ViMOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import vim_score
    >>> vim_score(torch.zeros(2, 2), torch.tensor([0.0, 3.0]), scale=0.5)
    tensor([ 0.6931, -0.8069])
    """
    return energy_score(logits) - scale * residuals


def class_means(features: Tensor, codes: Tensor, n_classes: int) -> Tensor:
    """Return the mean feature of each class.

    Parameters
    ----------
    features : tensor of shape (n, d)
    codes : int64 tensor of shape (n,)
        Class indices; every class must occur.
    n_classes : int

    Returns
    -------
    tensor of shape (n_classes, d)
    """
    sums = features.new_zeros(n_classes, features.shape[1]).index_add_(0, codes, features)
    return sums / torch.bincount(codes, minlength=n_classes)[:, None]


def shrunk_precision_root(residuals: Tensor, shrinkage: float) -> Tensor:
    r"""Return R with :math:`R R^T = ((1 - \rho) \Sigma + \rho \, tr(\Sigma) / d \; I)^{-1}`.

    Parameters
    ----------
    residuals : tensor of shape (n, d)
        Features minus the means of their classes. :math:`\Sigma` is their covariance about zero.
    shrinkage : float
        :math:`\rho` in [0, 1]. If it is 0, directions without variance get weight 0.

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


def logit_origin(weight: Tensor, bias: Tensor) -> Tensor:
    """Return the shortest feature whose logits are nearest to zero, :math:`-W^+ b` (ViM).

    Parameters
    ----------
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)

    Returns
    -------
    tensor of shape (d,)
    """
    return -torch.linalg.pinv(weight) @ bias


def residual_basis(centered: Tensor, n_components: int) -> Tensor:
    r"""Return an orthonormal basis of the directions outside of the principal space.

    Parameters
    ----------
    centered : tensor of shape (n, d)
        Features minus the origin.
    n_components : int
        Dimension D of the principal space.

    Returns
    -------
    tensor of shape (d, d - D)
        Eigenvectors of the d - D smallest eigenvalues of the second moment.
    """
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    return vectors[:, : centered.shape[1] - n_components]


def principal_dimension(n_features: int) -> int:
    """Return the dimension of the principal space that Wang et al. (2022) use for ViM."""
    if n_features >= 2048:
        return 1000
    return 512 if n_features >= 768 else n_features // 2
