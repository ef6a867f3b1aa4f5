"""Noise on the adapted layers of a network, for training and for measuring sharpness."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from ..neural import draw_seed
from ._config import NoiseConfig
from ._noise import (
    WeightNoise,
    full_precision,
    noise_buffer,
    noise_scale,
    noise_strength,
    release_scratch_buffers,
    scratch_buffer,
)


class NoisyLayer(Protocol):
    """A layer that can compute with noise on its merged weight.

    The layers of :func:`~sklearn_ext.lora.inject_lora` and those of peft both fit.

    Attributes
    ----------
    takes_noise : bool
        Whether noise can be applied to this layer.
    noise : WeightNoise or None
        The noise with which the layer computes. Callers set it to apply noise, and set it to None
        to remove the noise.
    """

    takes_noise: bool
    noise: WeightNoise | None

    @property
    def frozen_weight(self) -> torch.Tensor: ...

    def low_rank(self) -> tuple[torch.Tensor, torch.Tensor]: ...


class NoiseProcess:
    """The noise of Flat-LoRA during one training run.

    New noise is drawn after each update of an optimizer. Batches whose gradients are accumulated
    for one update therefore share their noise, and so do all evaluations of a closure within one
    step.

    Parameters
    ----------
    layers : iterable of layers
        The adapted layers, as the values of :func:`lora_layers`.
    config : NoiseConfig
    seed : int
        Seeds the draws. No global generator is used.

    Attributes
    ----------
    strength : float
        Strength of the current noise.
    n_updates : int
        Number of updates of the optimizers so far.

    See Also
    --------
    flat_lora : Runs this process in a training loop of your own.
    FlatLoRACallback : Runs this process during the training of a skorch net.
    FlatLoRATrainerCallback : Runs this process in the Trainer of transformers.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.lora import NoiseConfig, NoiseProcess, inject_lora, lora_layers
    >>> from sklearn_ext.neural import MLP
    >>> module = inject_lora(MLP(4, 2), r=2, random_state=0)
    >>> optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad])
    >>> X, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
    >>> noise = NoiseProcess(lora_layers(module).values(), NoiseConfig(sigma=0.1), seed=0)
    >>> noise.watch([optimizer])
    >>> for step in range(10):
    ...     noise.refresh(progress=step / 10)
    ...     optimizer.zero_grad()
    ...     with noise.applied():
    ...         torch.nn.functional.cross_entropy(module(X), y).backward()
    ...     _ = optimizer.step()
    >>> noise.close()
    >>> noise.n_updates, round(noise.strength, 4)
    (10, 0.0976)
    """

    def __init__(self, layers: Iterable[NoisyLayer], config: NoiseConfig, *, seed: int) -> None:
        self.layers = [layer for layer in layers if layer.takes_noise]
        self.config = config
        self.n_updates = 0
        self.strength = 0.0
        self._random = np.random.RandomState(seed)
        self._is_outdated = True
        self._hooks: list[Any] = []
        self._draws = self._no_noise()
        self._weight_norms = [full_weight(layer).square().sum(dim=1) for layer in self.layers]
        self._buffers: list[list[torch.Tensor]] | None = None
        if config.store_noise:
            weights = [layer.frozen_weight for layer in self.layers]
            self._buffers = [[noise_buffer(W) for W in weights] for _ in range(config.n_noise)]

    def _no_noise(self) -> list[list[WeightNoise | None]]:
        return [[None] * len(self.layers)] * self.config.n_noise

    def watch(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        """Draw new noise after each update of the optimizers, until `close` is called.

        Parameters
        ----------
        optimizers : iterable of torch.optim.Optimizer
        """
        for optimizer in optimizers:
            self._hooks.append(optimizer.register_step_post_hook(self._after_update))

    def follow(
        self, optimizer: torch.optim.Optimizer, total_steps: int, *, first_step: int = 0
    ) -> None:
        """Apply noise during all steps of an optimizer, until `close` is called.

        The layers compute with the noise of a step until the optimizer has made its update, and
        with that of the next step from then on. In evaluation mode, they compute without noise.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
        total_steps : int
            Number of updates in the whole training run. Later updates get the noise of the end.
        first_step : int, default=0
            Number of updates that were made before, if the training is resumed.
        """

        def begin_step(*_: Any) -> None:
            self.refresh(min(self.n_updates / total_steps, 1.0))
            self.apply()

        for step in range(first_step):
            self._skip_draws(step / total_steps)
        self.n_updates = first_step
        begin_step()
        self.watch([optimizer])
        self._hooks.append(optimizer.register_step_post_hook(begin_step))

    def _skip_draws(self, progress: float) -> None:
        if noise_strength(progress, self.config.sigma, self.config.sigma_schedule) != 0:
            for _ in range(len(self.layers) * self.config.n_noise):
                draw_seed(self._random)

    def _after_update(self, *_: Any) -> None:
        self._is_outdated = True
        self.n_updates += 1

    def close(self) -> None:
        """Remove the noise and the hooks of the optimizers, and free the buffers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.remove()
        release_scratch_buffers()

    @torch.no_grad()
    def refresh(self, progress: float) -> None:
        """Draw the noise of the next update, unless it has been drawn already.

        Parameters
        ----------
        progress : float in [0, 1]
            Completed fraction of the training.
        """
        if not self._is_outdated:
            return
        self._is_outdated = False
        config = self.config
        self.strength = noise_strength(progress, config.sigma, config.sigma_schedule)
        self._draws = self._no_noise()
        if self.strength == 0:
            return
        scales = []
        for layer, norms in zip(self.layers, self._weight_norms, strict=True):
            A, B = layer.low_rank()
            scale = noise_scale(full_weight(layer), A, B, self.strength, weight_norms=norms)
            scales.append(scale)
        self._draws = [
            [self._noise(scale, k, number) for number, scale in enumerate(scales)]
            for k in range(config.n_noise)
        ]

    def _noise(self, scale: torch.Tensor, k: int, number: int) -> WeightNoise:
        seed = draw_seed(self._random)
        buffer = None if self._buffers is None else self._buffers[k][number]
        return WeightNoise(scale, seed, buffer=buffer, local=self.config.perturbation == "local")

    def apply(self, draw: int = 0) -> None:
        """Apply the noise to the layers until `remove` is called.

        Parameters
        ----------
        draw : int, default=0
            Index of the draw, from 0 to ``config.n_noise - 1``.
        """
        for layer, noise in zip(self.layers, self._draws[draw], strict=True):
            layer.noise = noise

    def remove(self) -> None:
        """Remove the noise from the layers."""
        _remove_noise(self.layers)

    @contextlib.contextmanager
    def applied(self, draw: int = 0) -> Iterator[None]:
        """Apply the noise to the layers inside a ``with`` block.

        Parameters
        ----------
        draw : int, default=0
            Index of the draw, from 0 to ``config.n_noise - 1``.

        Yields
        ------
        None
        """
        try:
            self.apply(draw)
            yield
        finally:
            self.remove()

    def check_loss(self, loss: torch.Tensor) -> None:
        """Check that a loss under the current noise is finite.

        Parameters
        ----------
        loss : tensor of one element

        Raises
        ------
        ValueError
            If the loss is not finite.
        """
        if not torch.isfinite(loss):
            raise ValueError(
                f"The loss is {loss.item()} at step {self.n_updates} (noise strength "
                f"{self.strength:.3g}). X or y may need scaling, or lr or sigma may be too large."
            )


@dataclasses.dataclass
class TrainingProgress:
    """Counter of the batches of a training run.

    Attributes
    ----------
    n_epochs : int
        Number of epochs in the run.
    is_complete : bool
        Whether the schedule stays at its end, because the run continues a complete one.
    """

    n_epochs: int
    is_complete: bool = False
    _epoch: int = -1
    _n_batches: int = 0
    _batches_per_epoch: int | None = None

    def begin_epoch(self, n_batches: int | None) -> None:
        """Begin an epoch of `n_batches` batches, or of an unknown number if it is None."""
        self._epoch += 1
        self._batches_per_epoch = n_batches

    def end_batch(self) -> None:
        """Count a batch."""
        self._n_batches += 1

    @property
    def fraction(self) -> float:
        """Completed fraction of the training, in whole epochs if their length is unknown."""
        if self.is_complete:
            return 1.0
        if self._batches_per_epoch is None:
            return min(self._epoch / self.n_epochs, 1.0)
        return min(self._n_batches / (self.n_epochs * self._batches_per_epoch), 1.0)


def n_training_batches(net: Any, dataset: Any) -> int | None:
    """Return the length of a skorch net's iterator over training data, or None if unknown."""
    try:
        return len(net.get_iterator(dataset, training=True))
    except TypeError:
        return None


def full_weight(layer: NoisyLayer) -> torch.Tensor:
    """Return W as (m, n) in float32 or a wider type; a converted copy is a scratch buffer."""
    W = layer.frozen_weight.detach()
    dtype = full_precision(W)
    if W.dtype != dtype:
        W = scratch_buffer(W.shape, dtype, W.device).copy_(W)
    return W.flatten(1)


@torch.no_grad()
def expected_sharpness(
    loss: Callable[[], float],
    layers: Iterable[NoisyLayer],
    *,
    sigma: float,
    n_draws: int = 20,
    seed: int = 0,
) -> float:
    r"""Estimate how much noise on the merged weights raises a loss.

    The result is the mean of :math:`L(W' + \varepsilon) - L(W')` over draws of the noise, in
    evaluation mode. Draws come in pairs :math:`\pm\varepsilon`, which cancel the first-order term
    of the loss. For small sigma the expectation is
    :math:`\frac12 \sum_i \frac{\sigma^2}{n} \lVert W'_i \rVert^2 \sum_j H_{(ij)(ij)}`, where H is
    the Hessian of the loss.

    Parameters
    ----------
    loss : callable
        Returns the loss of the network in evaluation mode.
    layers : iterable of layers
        The adapted layers, as the values of :func:`lora_layers`.
    sigma : float
        Size of the noise relative to the merged weights.
    n_draws : int, default=20
        Number of draws.
    seed : int, default=0
        Seeds the draws.

    Returns
    -------
    float

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.lora import expected_sharpness, inject_lora, lora_layers
    >>> module = torch.nn.Linear(3, 3, bias=False)
    >>> _ = torch.nn.init.eye_(module.weight)
    >>> module = inject_lora(torch.nn.Sequential(module), target_modules="all", r=1).eval()
    >>> def loss():
    ...     return (module(torch.eye(3)) - torch.eye(3)).square().sum().item()
    >>> layers = lora_layers(module).values()
    >>> sharpness = expected_sharpness(loss, layers, sigma=0.1, n_draws=2000)
    >>> round(sharpness, 2)  # sigma**2 * ||W||**2
    0.03
    """
    layers = [layer for layer in layers if layer.takes_noise]
    scales = [noise_scale(full_weight(layer), *layer.low_rank(), sigma) for layer in layers]
    rng = np.random.RandomState(seed)
    seeds = [[draw_seed(rng) for _ in layers] for _ in range(-(-n_draws // 2))]
    losses = []
    try:
        for k in range(n_draws):
            sign = 1 - 2 * (k % 2)
            for layer, scale, s in zip(layers, scales, seeds[k // 2], strict=True):
                layer.noise = WeightNoise(sign * scale, s, training=False)
            losses.append(loss())
    finally:
        _remove_noise(layers)
        release_scratch_buffers()
    return float(np.mean(losses) - loss())


def _remove_noise(layers: Sequence[NoisyLayer]) -> None:
    for layer in layers:
        layer.noise = None
