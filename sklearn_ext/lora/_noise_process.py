"""Noise on the adapted layers of a network, drawn once for each step of the optimiser."""

import contextlib

import numpy as np
import torch

from ._noise import noise_strength, row_std, squared_row_norms
from ._weight_noise import (
    WeightNoise,
    full_precision,
    noise_buffer,
    release_scratch_buffers,
    scratch_buffer,
)


def full_weight(layer):
    """Return W as (m, n) in at least float32; where it is a copy, it lies in a scratch buffer."""
    W = layer.frozen_weight.detach()
    full = full_precision(W)
    if W.dtype != full:
        W = scratch_buffer(W.shape, full, W.device).copy_(W)
    return W.flatten(1)


@torch.no_grad()
def merged_row_std(layer, sigma, weight_norms=None):
    """Return the standard deviations of the noise on a layer's merged weight, shape (m,)."""
    W = full_weight(layer)
    squared_norms = squared_row_norms(W, *layer.low_rank(), weight_norms=weight_norms)
    return row_std(squared_norms, W.shape[1], sigma)


@contextlib.contextmanager
def applied(layers, noises):
    """Let layers compute with noise inside a ``with`` block."""
    try:
        for layer, noise in zip(layers, noises, strict=True):
            layer.noise = noise
        yield
    finally:
        for layer in layers:
            layer.noise = None


class NoiseProcess:
    """The noise of one training run.

    Its strength follows the share of the batches that are done; the noise is drawn anew after each
    step of an optimiser. So several batches whose gradients are accumulated for one step see the
    same noise, and so do the calls of a closure within a step.

    Parameters
    ----------
    layers : list of layers
        With `frozen_weight`, `low_rank()`, `takes_noise` and a settable `noise`.
    sigma : float
    schedule : str or callable
    local : bool
    store_noise : bool
    n_noise : int
        Draws for each step.
    seed : int
    n_epochs : int
    resumed : bool
        Whether the schedule stands at its end from the first batch on.
    """

    def __init__(
        self,
        layers,
        *,
        sigma,
        schedule="cosine",
        local=False,
        store_noise=False,
        n_noise=1,
        seed,
        n_epochs,
        resumed=False,
    ):
        self.layers = [layer for layer in layers if layer.takes_noise]
        self.sigma, self.schedule, self.local = sigma, schedule, local
        self.n_noise, self.n_epochs, self.resumed = n_noise, n_epochs, resumed
        self._random = np.random.RandomState(seed)
        self.n_steps = 0
        self.strength = 0.0
        self._epoch, self._n_batches, self._batches_an_epoch = -1, 0, None
        self._stale, self._hooks = True, []
        self._noises = [[None] * len(self.layers)] * n_noise
        self._weight_norms = [full_weight(layer).square().sum(dim=1) for layer in self.layers]
        self._buffers = self._make_buffers() if store_noise else None

    def _make_buffers(self):
        weights = [layer.frozen_weight for layer in self.layers]
        return [[noise_buffer(W) for W in weights] for _ in range(self.n_noise)]

    def watch(self, net):
        """Notice the steps of a net's optimisers."""
        for name in net._optimizers:
            optimizer = getattr(net, f"{name}_")
            self._hooks.append(optimizer.register_step_post_hook(self.on_step))

    def close(self):
        """Take noise and hooks away, and free memory."""
        for hook in self._hooks:
            hook.remove()
        self.silence()
        release_scratch_buffers()

    def on_step(self, *_):
        """Note that an optimizer has made a step."""
        self._stale = True
        self.n_steps += 1

    def begin_epoch(self, n_batches):
        """Begin the next epoch; `n_batches` is None where it is unknown."""
        self._epoch += 1
        self._batches_an_epoch = n_batches

    def end_batch(self):
        self._n_batches += 1

    @property
    def progress(self):
        """Share of the training that is done."""
        if self.resumed:
            return 1.0
        if self._batches_an_epoch is None:
            return min(self._epoch / self.n_epochs, 1.0)
        return min(self._n_batches / (self.n_epochs * self._batches_an_epoch), 1.0)

    def refresh(self):
        """Draw the noise of a step, unless the one at hand is of this step."""
        if not self._stale:
            return
        self._stale = False
        self.strength = noise_strength(self.progress, self.sigma, self.schedule)
        if self.strength == 0:
            self._noises = [[None] * len(self.layers)] * self.n_noise
            return
        stds = [
            merged_row_std(layer, self.strength, norms)
            for layer, norms in zip(self.layers, self._weight_norms, strict=True)
        ]
        self._noises = [
            [self._noise(std, k, number) for number, std in enumerate(stds)]
            for k in range(self.n_noise)
        ]

    def _noise(self, std, k, number):
        seed = int(self._random.randint(2**31 - 1))
        buffer = None if self._buffers is None else self._buffers[k][number]
        return WeightNoise(std, seed, buffer=buffer, local=self.local)

    def applied(self, k=0):
        """Context in which the layers compute with the k-th noise of the step."""
        return applied(self.layers, self._noises[k])

    def apply(self):
        """Let the layers compute with the first noise of the step until `silence`."""
        for layer, noise in zip(self.layers, self._noises[0], strict=True):
            layer.noise = noise

    def silence(self):
        """Let the layers compute without noise."""
        for layer in self.layers:
            layer.noise = None


def n_batches(net, dataset):
    """Length of a net's iterator over training data, or None where it is unknown."""
    try:
        return len(net.get_iterator(dataset, training=True))
    except TypeError:
        return None
