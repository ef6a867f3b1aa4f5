r"""Scores from the logits, the features and the head of a classifier: higher is in-distribution.

Features :math:`z \in R^d` are the input of the last linear layer, the head. Its logits are
:math:`l = W z + b`, and :math:`u = z / |z|` is a unit feature.
"""

import torch
from torch import Tensor
from torch.nn import functional

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


def react_score(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    clip_value: float,
    *,
    norm: float | None = None,
) -> Tensor:
    r"""Return the negative energy of rectified features (Sun et al., 2021, eq. 2).

    The logits are :math:`W \min(z, c) + b`.

    Parameters
    ----------
    features : tensor of shape (n, d)
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)
    clip_value : float
        :math:`c`, usually a high quantile of the features of inliers.
    norm : float or None, default=None
        Norm to which the module scales the logits of each sample; None if it leaves them as they
        are.

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
    return _energy_of(features.clamp_max(clip_value), weight, bias, norm)


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

    It ranks samples in the reverse order of the softmax probability of the virtual logit, but does
    not saturate.

    Parameters
    ----------
    logits : tensor of shape (n, C)
    residuals : tensor of shape (n,)
        Lengths :math:`|R^T (z - o)|` of the parts of the features outside the principal space.
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


def gen_score(logits: Tensor, exponent: float = 0.1, n_top: int = 100) -> Tensor:
    r"""Return the negative generalized entropy of the probabilities (GEN; Liu et al., 2023, eq. 2).

    .. math::
        s = -\sum_{c \in \mathrm{top}} p_c^\gamma (1 - p_c)^\gamma

    The sum is over the largest probabilities. A small exponent magnifies small deviations from a
    certain prediction.

    Parameters
    ----------
    logits : tensor of shape (n, C)
    exponent : float, default=0.1
        :math:`\gamma` in (0, 1).
    n_top : int, default=100
        Number of the largest probabilities; all of them if there are fewer classes.

    Returns
    -------
    tensor of shape (n,)
        At most 0.

    See Also
    --------
    GENOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import gen_score
    >>> gen_score(torch.tensor([[0.0, 0.0], [9.0, 0.0]]))
    tensor([-1.7411, -0.8131])
    """
    p = torch.softmax(logits, dim=1)
    p = p.topk(min(n_top, p.shape[1]), dim=1).values
    return -(p * (1.0 - p)).pow(exponent).sum(dim=1)


def scale_score(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    quantile: float = 0.65,
    *,
    norm: float | None = None,
) -> Tensor:
    r"""Return the negative energy of rescaled features (SCALE; Xu et al., 2024, eq. 3).

    A feature is multiplied by :math:`e^r`, where :math:`r` is the sum of its entries divided by the
    sum of its largest entries.

    Parameters
    ----------
    features : tensor of shape (n, d)
        Non-negative features, such as those after a ReLU.
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)
    quantile : float in [0, 1), default=0.65
        Fraction of the entries that do not count as the largest.
    norm : float or None, default=None
        Norm to which the module scales the logits of each sample; None if it leaves them as they
        are.

    Returns
    -------
    tensor of shape (n,)

    See Also
    --------
    SCALEOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import scale_score
    >>> features = torch.tensor([[4.0, 0.0], [2.0, 2.0]])
    >>> scale_score(features, torch.eye(2), torch.zeros(2), quantile=0.5)
    tensor([10.8731, 15.4713])
    """
    ratio, _, _ = _sum_ratio(features, quantile)
    return _energy_of(features * ratio.exp()[:, None], weight, bias, norm)


def ash_score(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    quantile: float = 0.65,
    *,
    norm: float | None = None,
) -> Tensor:
    r"""Return the negative energy of pruned and rescaled features (ASH-S; Djurisic et al., 2023).

    All but the largest entries of a feature are set to zero, and the others are multiplied by
    :math:`e^r`, where :math:`r` is the sum of the entries before pruning divided by the sum after.

    Parameters
    ----------
    features : tensor of shape (n, d)
        Non-negative features, such as those after a ReLU.
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)
    quantile : float in [0, 1), default=0.65
        Fraction of the entries that are pruned.
    norm : float or None, default=None
        Norm to which the module scales the logits of each sample; None if it leaves them as they
        are.

    Returns
    -------
    tensor of shape (n,)

    See Also
    --------
    ASHOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import ash_score
    >>> features = torch.tensor([[4.0, 0.0], [3.0, 1.0]])
    >>> ash_score(features, torch.eye(2), torch.zeros(2), quantile=0.5)
    tensor([10.8731, 11.3810])
    """
    ratio, largest, index = _sum_ratio(features, quantile)
    shaped = torch.zeros_like(features).scatter(1, index, largest * ratio.exp()[:, None])
    return _energy_of(shaped, weight, bias, norm)


def _energy_of(features: Tensor, weight: Tensor, bias: Tensor, norm: float | None) -> Tensor:
    logits = features @ weight.T + bias
    return energy_score(logits if norm is None else norm * functional.normalize(logits, dim=1))


def _sum_ratio(features: Tensor, quantile: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sum of all entries divided by that of the largest, the largest, and their index.

    The ratio of a feature without positive entries is 1, as if nothing were pruned.
    """
    n_largest = max(1, features.shape[1] - round(quantile * features.shape[1]))
    largest, index = features.topk(n_largest, dim=1)
    total, kept = features.sum(dim=1), largest.sum(dim=1)
    ratio = torch.where(kept > _SHORTEST, total / kept.clamp_min(_SHORTEST), torch.ones_like(kept))
    return ratio, largest, index


def nnguide_score(
    features: Tensor, logits: Tensor, guides: Tensor, n_neighbors: int = 10
) -> Tensor:
    r"""Return the negative energy times the similarity to confident neighbors (NNGuide).

    .. math::
        s(z) = e(z) \, \frac{1}{k} \sum_{i = 1}^k (u \cdot g)_{(i)}

    Here :math:`e` is the negative energy, and the mean is over the k largest products of the unit
    feature with the guides :math:`g_i = e(z_i) u_i` of training samples (Park et al., 2023).

    Parameters
    ----------
    features : tensor of shape (n, d)
    logits : tensor of shape (n, C)
    guides : tensor of shape (m, d)
        Unit features of training samples times their negative energies.
    n_neighbors : int, default=10
        k, at most m.

    Returns
    -------
    tensor of shape (n,)

    See Also
    --------
    NNGuideOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import nnguide_score
    >>> features = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> nnguide_score(features, features, torch.tensor([[2.0, 0.0]]), n_neighbors=1)
    tensor([4.2539, 0.0000])
    """
    block = max(1, _ENTRIES // len(guides))
    similarity = [
        (part @ guides.T).topk(n_neighbors, dim=1).values.mean(dim=1)
        for part in unit_rows(features).split(block)
    ]
    return energy_score(logits) * torch.cat(similarity)


def fdbd_score(features: Tensor, weight: Tensor, bias: Tensor, mean: Tensor) -> Tensor:
    r"""Return the mean distance of features to the decision boundaries (fDBD; Liu and Qin, 2024).

    .. math::
        s(z) = \frac{1}{C - 1} \sum_{c \ne k}
            \frac{l_k - l_c}{|w_k - w_c| \, |z - \mu|}, \quad k = \arg\max_c l_c

    Parameters
    ----------
    features : tensor of shape (n, d)
    weight : tensor of shape (C, d)
    bias : tensor of shape (C,)
    mean : tensor of shape (d,)
        Mean feature :math:`\mu` of the training samples.

    Returns
    -------
    tensor of shape (n,)
        Non-negative.

    See Also
    --------
    FDBDOODDetector : The detector with this score.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import fdbd_score
    >>> features = torch.tensor([[3.0, 0.0], [3.0, 2.0]])
    >>> fdbd_score(features, torch.eye(2), torch.zeros(2), mean=torch.zeros(2))
    tensor([0.7071, 0.1961])
    """
    logits = features @ weight.T + bias
    largest, k = logits.max(dim=1)
    between = torch.cdist(weight, weight, compute_mode="donot_use_mm_for_euclid_dist")
    # Equal rows have no boundary between them, and their logits differ by a constant.
    gaps = torch.where(
        between[k] > _SHORTEST,
        (largest[:, None] - logits) / between[k].clamp_min(_SHORTEST),
        torch.zeros_like(logits),
    )
    spread = torch.linalg.vector_norm(features - mean, dim=1).clamp_min(_SHORTEST)
    return gaps.sum(dim=1) / (len(weight) - 1) / spread


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
    r"""Return an orthonormal basis of the directions outside the principal space.

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
