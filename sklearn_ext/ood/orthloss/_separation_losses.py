r"""Losses that turn the features of outliers away from the rows of a linear head.

A network has features :math:`z \in R^d`, the input of its last linear layer, and logits
:math:`l = W z + b` with C rows :math:`w_c`. Unit vectors are :math:`u = z / |z|` and
:math:`v_c = w_c / |w_c|`. The latter are constants within a step, so that no gradient reaches W
through them. In the formulas, quantities of outliers carry a tilde. Equation numbers refer to Wu et
al., "Pursuing Feature Separation based on Neural Collapse for Out-of-Distribution Detection",
ICLR 2025, arXiv:2405.17816.
"""

from collections.abc import Callable

from torch import Tensor, logsumexp
from torch.nn import functional

from .._scores import unit_rows


def outlier_exposure_loss(logits: Tensor) -> Tensor:
    r"""Return the cross-entropy between the uniform distribution and the prediction on outliers.

    .. math::
        L_{OE} = \frac 1 {B'} \sum_j \Big[ \log \sum_c e^{\tilde l_{jc}}
            - \frac 1 C \sum_c \tilde l_{jc} \Big]
        = \frac 1 {B'} \sum_j KL(\text{uniform} \,|\, \tilde p_j) + \log C

    Parameters
    ----------
    logits : tensor of shape (B', C)
        Logits of outliers.

    Returns
    -------
    tensor of shape ()
        At least log C.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import outlier_exposure_loss
    >>> outlier_exposure_loss(torch.tensor([[0.0, 0.0], [4.0, 0.0]]))
    tensor(1.3556)
    """
    return (logsumexp(logits, dim=1) - logits.mean(dim=1)).mean()


def energy_margin_loss(
    logits: Tensor, outlier_logits: Tensor, inlier_margin: float, outlier_margin: float
) -> Tensor:
    r"""Return squared hinge losses that separate the energies of inliers and outliers.

    .. math::
        L_E = \frac 1 B \sum_i \max(E_i - m_{in}, 0)^2
            + \frac 1 {B'} \sum_j \max(m_{out} - \tilde E_j, 0)^2, \qquad
        E = -\log \sum_c e^{l_c}

    This is equation 8 of Liu et al., "Energy-based Out-of-distribution Detection", NeurIPS 2020.

    Parameters
    ----------
    logits : tensor of shape (B, C)
        Logits of inliers.
    outlier_logits : tensor of shape (B', C)
    inlier_margin, outlier_margin : float
        Energies :math:`m_{in} < m_{out}`, in units of the logits of this network.

    Returns
    -------
    tensor of shape ()
    """
    energy, outlier_energy = -logsumexp(logits, 1), -logsumexp(outlier_logits, 1)
    above = functional.relu(energy - inlier_margin).square().mean()
    below = functional.relu(outlier_margin - outlier_energy).square().mean()
    return above + below


def separation_loss(features: Tensor, weight: Tensor, reduction: str = "mean") -> Tensor:
    r"""Return the absolute cosines of outliers with the rows of the head (equation 4).

    .. math::
        L_{Sep} = \frac s {B'} \sum_j \sum_c |\tilde u_j \cdot v_c|

    Parameters
    ----------
    features : tensor of shape (B', d)
        Features of outliers.
    weight : tensor of shape (C, d)
        Rows of the head. They are detached.
    reduction : {"mean", "sum"}, default="mean"
        Reduction over classes: :math:`s = 1 / C` as in the paper, or :math:`s = 1` as in its code.

    Returns
    -------
    tensor of shape ()
        0 if every feature is orthogonal to every row.

    See Also
    --------
    OrthLossOODDetector : The detector trained with this loss.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import separation_loss
    >>> weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> separation_loss(torch.tensor([[0.0, 0.0, 2.0]]), weight)
    tensor(0.)
    >>> separation_loss(torch.tensor([[3.0, 0.0, 4.0]]), weight)
    tensor(0.3000)
    """
    cosines = (unit_rows(features) @ unit_rows(weight.detach()).T).abs()
    per_outlier = cosines.mean(dim=1) if reduction == "mean" else cosines.sum(dim=1)
    return per_outlier.mean()


def clustering_loss(features: Tensor, codes: Tensor, weight: Tensor) -> Tensor:
    r"""Return the negative cosine of inliers with the row of their own class (equation 5).

    .. math::
        L_{Clu} = -\frac 1 B \sum_i u_i \cdot v_{y_i}

    Parameters
    ----------
    features : tensor of shape (B, d)
        Features of inliers.
    codes : int64 tensor of shape (B,)
        Class indices :math:`y_i`.
    weight : tensor of shape (C, d)
        Rows of the head. They are detached.

    Returns
    -------
    tensor of shape ()
        Between -1, where every feature points along its row, and 1.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import clustering_loss
    >>> weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> clustering_loss(torch.tensor([[3.0, 0.0, 4.0]]), torch.tensor([0]), weight)
    tensor(-0.6000)
    """
    return -(unit_rows(features) * unit_rows(weight.detach())[codes]).sum(dim=1).mean()


def fine_tuning_loss(
    logits: Tensor,
    features: Tensor,
    codes: Tensor,
    outlier_logits: Tensor,
    outlier_features: Tensor,
    weight: Tensor,
    *,
    oe_weight: float,
    sep_weight: float,
    clu_weight: float,
    reduction: str = "mean",
    energy_margins: tuple[float, float] | None = None,
    cross_entropy: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
) -> Tensor:
    r"""Return the objective of a fine-tuning step (equation 3).

    .. math::
        J = L_{CE} + \lambda L_{OE} + \alpha L_{Clu} + \beta L_{Sep}

    A term with weight zero or without samples is not computed, so that it cannot change the
    rounding of the others.

    Parameters
    ----------
    logits : tensor of shape (B, C)
        Logits of inliers.
    features : tensor of shape (B, d)
        Features of inliers.
    codes : int64 tensor of shape (B,)
        Class indices of inliers.
    outlier_logits : tensor of shape (B', C)
    outlier_features : tensor of shape (B', d)
    weight : tensor of shape (C, d)
        Current rows of the head.
    oe_weight, sep_weight, clu_weight : float
        :math:`\lambda`, :math:`\beta` and :math:`\alpha`.
    reduction : {"mean", "sum"}, default="mean"
        See :func:`separation_loss`.
    energy_margins : (float, float), default=None
        If given, :math:`L_{OE}` is replaced by squared hinge losses that push the energies of
        inliers below the first margin and those of outliers above the second.
    cross_entropy : callable, default=torch.nn.functional.cross_entropy
        Loss of the inliers, called with their logits and class indices.

    Returns
    -------
    tensor of shape ()

    See Also
    --------
    SeparationNet : The skorch net that minimizes this objective.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.ood import fine_tuning_loss
    >>> weight = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    >>> inlier, outlier = torch.tensor([[3.0, 0.0, 4.0]]), torch.tensor([[0.0, 0.0, 2.0]])
    >>> fine_tuning_loss(
    ...     inlier @ weight.T, inlier, torch.tensor([0]), outlier @ weight.T, outlier, weight,
    ...     oe_weight=0.5, sep_weight=1.0, clu_weight=1.0,
    ... )
    tensor(-0.2048)
    """
    loss = logits.new_zeros(())
    if len(codes):
        loss = loss + cross_entropy(logits, codes)
        if clu_weight > 0.0:
            loss = loss + clu_weight * clustering_loss(features, codes, weight)
    if len(outlier_logits):
        if oe_weight > 0.0 and energy_margins is None:
            loss = loss + oe_weight * outlier_exposure_loss(outlier_logits)
        if sep_weight > 0.0:
            loss = loss + sep_weight * separation_loss(outlier_features, weight, reduction)
    if oe_weight > 0.0 and energy_margins is not None and len(codes) and len(outlier_logits):
        margins = energy_margin_loss(logits, outlier_logits, *energy_margins)
        loss = loss + oe_weight * margins
    return loss
