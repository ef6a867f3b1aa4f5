"""Expected sharpness: what noise on the merged weights costs."""

import numpy as np
import torch

from ._noise_process import applied, merged_row_std
from ._weight_noise import WeightNoise, release_scratch_buffers


@torch.no_grad()
def expected_sharpness(loss, layers, *, sigma, n_draws, seed):
    r"""Mean of :math:`L(W' + \varepsilon) - L(W')` over draws of the noise, in evaluation mode.

    Draws come in pairs :math:`\pm\varepsilon`, which have the same distribution and cancel the
    first order of the loss. For small sigma the mean is
    :math:`\frac12 \sum_i \frac{\sigma^2}{n} \lVert W'_i \rVert^2 \sum_j H_{(ij)(ij)}`.

    Parameters
    ----------
    loss : callable
        Returns the loss of the network as it stands.
    layers : list of layers
        As for :class:`~sklearn_ext.lora._noise_process.NoiseProcess`.
    sigma : float
    n_draws : int
    seed : int

    Returns
    -------
    float
    """
    layers = [layer for layer in layers if layer.takes_noise]
    stds = [merged_row_std(layer, sigma) for layer in layers]
    seeds = np.random.RandomState(seed).randint(2**31 - 1, size=(-(-n_draws // 2), len(layers)))
    losses = []
    try:
        for k in range(n_draws):
            sign = 1 - 2 * (k % 2)
            noises = [
                WeightNoise(sign * std, int(s), training=False)
                for std, s in zip(stds, seeds[k // 2], strict=True)
            ]
            with applied(layers, noises):
                losses.append(loss())
    finally:
        release_scratch_buffers()
    return float(np.mean(losses) - loss())
