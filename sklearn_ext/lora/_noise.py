r"""The noise of Flat-LoRA: its strength, its scale and the noisy weight.

Flat-LoRA minimizes the loss averaged over Gaussian noise on the merged weight,

.. math::
    \min_{A, B} E_\varepsilon\, L(W' + \varepsilon), \qquad W' = W + s B A, \qquad
    \varepsilon_{ij} \sim N\Bigl(0, \frac{\sigma^2}{n} \lVert W'_{i,:} \rVert^2\Bigr)

(eq. 4 of the paper), where W of shape (m, n) is frozen, B has shape (m, r) and A has shape (r, n).
The weight of a convolution is viewed as a matrix with one row per filter. Because
:math:`E\lVert\varepsilon\rVert_F^2 = \sigma^2 \lVert W' \rVert_F^2`, :math:`\sigma` is the size of
the noise relative to the weight.
"""

import math
import threading
from collections.abc import Callable
from typing import Any

import torch

from ..neural import torch_generator

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
    "linear": lambda progress: progress,
    "constant": lambda progress: 1.0,
}

# The default strength is 1 / _EPOCHS for each epoch, but at most _LARGEST_SIGMA.
_LARGEST_SIGMA, _EPOCHS = 0.1, 200

_scratch = threading.local()


def noise_strength(
    progress: float, sigma: float, sigma_schedule: str | Callable[[float], float] = "cosine"
) -> float:
    r"""Compute the strength of the noise at a point in training.

    After the fraction t / T of the training, the strength is
    :math:`\frac\sigma2 (1 - \cos \pi t / T)` for "cosine" (section 3.2 of [1]_),
    :math:`\sigma t / T` for "linear" and :math:`\sigma` for "constant".

    Parameters
    ----------
    progress : float in [0, 1]
        Completed fraction t / T of the training.
    sigma : float
        Strength at the end of training.
    sigma_schedule : {"cosine", "linear", "constant"} or callable, default="cosine"
        A callable maps `progress` to a factor of `sigma`.

    Returns
    -------
    float

    References
    ----------
    .. [1] T. Li, Z. He, Y. Li, Y. Wang, L. Shang, X. Huang, "Flat-LoRA: Low-Rank Adaptation over a
       Flat Loss Landscape", ICML 2025, arXiv:2409.14396.

    Examples
    --------
    >>> from sklearn_ext.lora import noise_strength
    >>> [round(noise_strength(t / 4, sigma=0.1), 3) for t in range(5)]
    [0.0, 0.015, 0.05, 0.085, 0.1]
    """
    factor = sigma_schedule if callable(sigma_schedule) else SCHEDULES[sigma_schedule]
    return sigma * factor(progress)


def default_sigma(n_epochs: float) -> float:
    """Return the strength of the noise at the end of training that suits its length.

    The strength is 0.1 for 20 epochs and more, and proportionally less for fewer. Noise keeps a
    network from fitting its training data too closely, and short training does not do so anyway.

    Parameters
    ----------
    n_epochs : float
        Number of passes over the training data.

    Returns
    -------
    float

    Examples
    --------
    >>> from sklearn_ext.lora import default_sigma
    >>> default_sigma(1), default_sigma(10), default_sigma(50)
    (0.005, 0.05, 0.1)
    """
    return min(_LARGEST_SIGMA, n_epochs / _EPOCHS)


def sigma_for(sigma: Any, n_epochs: float) -> Any:
    """Return the strength that a parameter `sigma` specifies, without checking it."""
    return default_sigma(n_epochs) if sigma == "auto" else sigma


def noise_scale(
    weight: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    sigma: float,
    *,
    scaling: float = 1.0,
    weight_norms: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Compute the standard deviation of the noise on each filter of a merged weight.

    For filter i of :math:`W' = W + s B A` it is :math:`\sigma \lVert W'_{i,:} \rVert / \sqrt n`
    (eq. 4 of [1]_). The merged weight is never formed.

    Parameters
    ----------
    weight : tensor of shape (m, n)
        The frozen weight W.
    A : tensor of shape (r, n)
    B : tensor of shape (m, r)
    sigma : float
        Size of the noise relative to the merged weight.
    scaling : float, default=1.0
        The factor s of the update.
    weight_norms : tensor of shape (m,) or None, default=None
        The squared norms :math:`\lVert W_{i,:} \rVert^2`, if they are known.

    Returns
    -------
    tensor of shape (m,)

    References
    ----------
    .. [1] T. Li, Z. He, Y. Li, Y. Wang, L. Shang, X. Huang, "Flat-LoRA: Low-Rank Adaptation over a
       Flat Loss Landscape", ICML 2025, arXiv:2409.14396.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.lora import noise_scale
    >>> W = torch.tensor([[3.0, 4.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]])
    >>> noise_scale(W, A=torch.ones(1, 4), B=torch.zeros(2, 1), sigma=0.1)
    tensor([0.2500, 0.1000])
    """
    squared_norms = squared_filter_norms(weight, A, B, scaling, weight_norms)
    return squared_norms.sqrt() * (sigma / math.sqrt(weight.shape[1]))


def squared_filter_norms(
    weight: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    scaling: float = 1.0,
    weight_norms: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Compute the squared norms of the rows of W + s B A without forming it.

    .. math::
        \lVert W'_i \rVert^2 = \lVert W_i \rVert^2 + 2 s\, B_i (W A^T)_i^T
        + s^2 B_i (A A^T) B_i^T .

    This costs one product of shapes (m, n) and (n, r). Values that are negative due to rounding are
    set to zero. The parameters are those of `noise_scale`; the result has shape (m,).
    """
    if weight_norms is None:
        weight_norms = weight.square().sum(dim=1)
    # A @ W.T reads W by rows, and takes half the time of W @ A.T for a thin A.
    cross = (B.T * (A @ weight.T)).sum(dim=0)
    low_rank = (B * (B @ (A @ A.T))).sum(dim=1)
    return (weight_norms + 2 * scaling * cross + scaling**2 * low_rank).clamp_(min=0.0)


class WeightNoise:
    """The noise on one weight during one training step.

    The noise itself is not stored but drawn again from its seed wherever it is needed.

    Parameters
    ----------
    scale : tensor of shape (m,)
        Standard deviation of the noise on each filter.
    seed : int
    buffer : tensor of the shape of the weight or None, default=None
        Memory that keeps the noisy weight after its first use, in float32 or a wider type. This
        halves the number of random draws but needs memory for one more copy of the weight. Without
        a buffer, the noisy weight is formed anew for each use.
    local : bool, default=False
        Whether linear layers get noise on their outputs instead, drawn independently for each
        sample.
    training : bool, default=True
        Whether layers apply the noise in training mode; False means evaluation mode.
    """

    def __init__(
        self,
        scale: torch.Tensor,
        seed: int,
        *,
        buffer: torch.Tensor | None = None,
        local: bool = False,
        training: bool = True,
    ) -> None:
        self.scale = scale
        self.seed = seed
        self.buffer = buffer
        self.local = local
        self.training = training
        self._is_filled = False

    def noisy_weight(self, weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Return weight + noise, added in float32 or a wider type and cast to `dtype`.

        The result may be a buffer that the next call overwrites.
        """
        out = self.buffer
        if out is None:
            out = scratch_buffer(weight.shape, full_precision(weight), weight.device)
        if not self._is_filled:
            out.normal_(generator=torch_generator(self.seed, out.device))
            out.flatten(1).mul_(self.scale[:, None])
            out.add_(weight)
            self._is_filled = self.buffer is not None
        return out.to(dtype)

    @torch.compiler.disable
    def sample(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the noise on a weight as a new tensor, in float32 or a wider type."""
        out = noise_buffer(weight)
        out.normal_(generator=torch_generator(self.seed, out.device))
        out.flatten(1).mul_(self.scale[:, None])
        return out

    @torch.compiler.disable
    def output_noise(self, x: torch.Tensor) -> torch.Tensor:
        r"""Return noise :math:`\tau_i \lVert x \rVert z_i` for the outputs of a linear layer.

        For a single sample x it has the distribution of :math:`\varepsilon x`. An input of shape
        (..., n) gives noise of shape (..., m).
        """
        z = torch.empty(*x.shape[:-1], len(self.scale), dtype=self.scale.dtype, device=x.device)
        z.normal_(generator=torch_generator(self.seed, x.device)).mul_(self.scale)
        return (torch.linalg.vector_norm(x, dim=-1, keepdim=True) * z).to(x.dtype)


def full_precision(tensor: torch.Tensor) -> torch.dtype:
    """Return the dtype of a tensor, or float32 if it is a half-precision type."""
    return torch.promote_types(tensor.dtype, torch.float32)


def noise_buffer(weight: torch.Tensor) -> torch.Tensor:
    """Return an empty contiguous tensor for noise on a weight.

    `torch.empty_like` would keep a memory format such as channels_last, in which the filters of
    the flattened tensor are not views.
    """
    return torch.empty(weight.shape, dtype=full_precision(weight), device=weight.device)


def scratch_buffer(
    shape: torch.Size | tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Return this thread's buffer of a shape; the next call with this shape returns it again.

    On the CPU, the page faults of a fresh tensor of that size cost as much as filling it. On other
    devices, torch reuses memory itself, and runs backward passes in its own threads, whose buffers
    would never be freed.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    buffers: dict[object, torch.Tensor] = vars(_scratch).setdefault("buffers", {})
    key = (tuple(shape), dtype, device)
    if key not in buffers:
        buffers[key] = torch.empty(shape, dtype=dtype, device=device)
    return buffers[key]


def release_scratch_buffers() -> None:
    """Free the buffers of this thread."""
    vars(_scratch).pop("buffers", None)
