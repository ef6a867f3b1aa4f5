"""Initial factors of low-rank updates."""

import math

import torch
from torch import nn

# Initializations whose product of factors is not zero, and is subtracted from the weight. LoRA-GA
# subtracts it, too, when it replaces the factors.
SUBTRACTED = ("pissa", "olora")
_GAMMA = 16  # of LoRA-GA, as in its paper
Factors = tuple[torch.Tensor, torch.Tensor]


def initial_factors(
    weight: torch.Tensor, r: int, scaling: float, method: bool | str, generator: torch.Generator
) -> Factors:
    r"""Return the initial factors A and B for a frozen weight.

    With True, A is uniform on :math:`\pm 1 / \sqrt n` and B is zero. With "gaussian", A is normal
    with standard deviation 1 / r. With False, B is uniform as well, on :math:`\pm 1 / \sqrt r`.
    "pissa" takes the r largest singular values of the weight [1]_, and "olora" its QR decomposition
    [2]_. "lora_ga" is the same as True until :func:`factors_from_gradient` replaces the factors.

    Parameters
    ----------
    weight : tensor of shape (m, n)
    r : int
    scaling : float
        The factor s of the update s B A.
    method : {True, False, "gaussian", "pissa", "olora", "lora_ga"}
    generator : torch.Generator

    Returns
    -------
    A : tensor of shape (r, n)
    B : tensor of shape (m, r)

    References
    ----------
    .. [1] F. Meng, Z. Wang, M. Zhang, "PiSSA: Principal Singular Values and Singular Vectors
       Adaptation of Large Language Models", NeurIPS 2024, arXiv:2404.02948.
    .. [2] K. Büyükakyüz, "OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models", 2024,
       arXiv:2406.01775.
    """
    m, n = weight.shape
    if method == "pissa":
        U, values, Vh = torch.linalg.svd(weight, full_matrices=False)
        root = (values[:r] / scaling).sqrt()
        return root[:, None] * Vh[:r], U[:, :r] * root
    if method == "olora":
        Q, R = torch.linalg.qr(weight)
        return R[:r].contiguous(), Q[:, :r].contiguous()
    A, B = torch.empty(r, n), torch.zeros(m, r)
    if method == "gaussian":
        A.normal_(std=1 / r, generator=generator)
    else:
        nn.init.kaiming_uniform_(A, a=math.sqrt(5), generator=generator)
    if method is False:
        nn.init.kaiming_uniform_(B, a=math.sqrt(5), generator=generator)
    return A, B


def factors_from_gradient(gradient: torch.Tensor, r: int) -> Factors:
    r"""Return the factors of LoRA-GA, whose first update follows the gradient of the weight [1]_.

    For the singular vectors of the gradient, the rows of A are the first r right ones and the
    columns of B are the next r left ones, both times :math:`m^{1/4} / \sqrt{\gamma}` with
    :math:`\gamma = 16`.

    Parameters
    ----------
    gradient : tensor of shape (m, n)
        Gradient of the loss with respect to the weight.
    r : int

    Returns
    -------
    A : tensor of shape (r, n)
    B : tensor of shape (m, r)

    References
    ----------
    .. [1] S. Wang, L. Yu, J. Li, "LoRA-GA: Low-Rank Adaptation with Gradient Approximation",
       NeurIPS 2024, arXiv:2407.05000.
    """
    U, values, Vh = torch.linalg.svd(gradient, full_matrices=False)
    stop = min(2 * r, len(values))
    factor = len(gradient) ** 0.25 / math.sqrt(_GAMMA)
    return factor * Vh[:r], factor * U[:, stop - r : stop]
