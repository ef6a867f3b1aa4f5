"""The noise of one weight in one step: standard deviations and a seed."""

import threading

import torch

from ._noise import standard_normal_

_scratch = threading.local()


def full_precision(tensor):
    """Return the dtype of a tensor, or float32 where it is a half one."""
    return torch.promote_types(tensor.dtype, torch.float32)


def scratch_buffer(shape, dtype, device):
    """Return this thread's buffer of a shape; its contents last until the next call.

    Fresh temporaries of that size cost as much in page faults as the numbers that fill them. On
    other devices torch reuses memory itself, and backward passes run in threads of its own, whose
    buffers nobody would free.
    """
    if device.type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    buffers = vars(_scratch).setdefault("buffers", {})
    key = (tuple(shape), dtype, device)
    if key not in buffers:
        buffers[key] = torch.empty(shape, dtype=dtype, device=device)
    return buffers[key]


def release_scratch_buffers():
    """Free the buffers of this thread."""
    vars(_scratch).pop("buffers", None)


def noise_buffer(weight):
    """Return an empty tensor for noise on a weight, filter by filter whatever the weight's layout.

    A weight in torch.channels_last would pass its own on, and its rows would be no views.
    """
    return torch.empty(weight.shape, dtype=full_precision(weight), device=weight.device)


class WeightNoise:
    """The noise of one weight in one training step.

    Parameters
    ----------
    std : tensor of shape (m,)
        Standard deviation of each row.
    seed : int
        Gives the same noise wherever it is needed during the step.
    buffer : tensor of the shape of the weight or None, default=None
        Where the noisy weight is kept from its first use on, in at least float32: half the random
        numbers for one more copy of the weight. Without it, it is formed anew for each use.
    local : bool, default=False
        Whether linear layers get the noise of the outputs instead, independent for each row.
    training : bool, default=True
        The mode in which layers apply it: training, or evaluation.
    """

    def __init__(self, std, seed, *, buffer=None, local=False, training=True):
        self.std = std
        self.seed = seed
        self.buffer = buffer
        self.local = local
        self.training = training
        self._is_filled = False

    def added_to(self, weight, dtype):
        """Return weight + noise, formed in at least float32 and cast; maybe in a scratch buffer."""
        out = self.buffer
        if out is None:
            out = scratch_buffer(weight.shape, full_precision(weight), weight.device)
        if not self._is_filled:
            standard_normal_(out, self.seed).flatten(1).mul_(self.std[:, None])
            out.add_(weight)
            self._is_filled = self.buffer is not None
        return out.to(dtype)

    def sample(self, weight):
        """Return the noise alone as a new tensor, in at least float32."""
        out = noise_buffer(weight)
        standard_normal_(out, self.seed).flatten(1).mul_(self.std[:, None])
        return out

    def of_outputs(self, x):
        r"""Noise of the outputs of a linear layer, :math:`\tau_i \lVert x \rVert z_i`.

        For one row x it has the distribution of :math:`\varepsilon x`.

        Parameters
        ----------
        x : tensor of shape (..., n)

        Returns
        -------
        tensor of shape (..., m)
        """
        z = torch.empty(*x.shape[:-1], len(self.std), dtype=self.std.dtype, device=x.device)
        standard_normal_(z, self.seed).mul_(self.std)
        return (torch.linalg.vector_norm(x, dim=-1, keepdim=True) * z).to(x.dtype)
