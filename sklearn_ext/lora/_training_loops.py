"""Flat-LoRA for any skorch net whose module has adapters, including those of peft."""

from collections.abc import Callable
from typing import Any, Self

import skorch
from skorch.callbacks import Callback
from torch import nn

from ..neural import draw_seed
from ..utils._typing import RandomState
from ..utils._warnings import warn_caller
from ._config import NoiseConfig
from ._injection import lora_layers
from ._noise_process import NoiseProcess, NoisyLayer, TrainingProgress, n_training_batches
from .layers import PeftLayer, is_peft_layer


class FlatLoRACallback(Callback):
    r"""Train the adapters of a skorch net under noise on the merged weights.

    Use it for nets whose module already has adapters, either from
    :func:`~sklearn_ext.lora.inject_lora` or from peft. During each training step, the layers
    compute with :math:`W + s B A + \varepsilon` [1]_. No weight is overwritten, so an interrupted
    step leaves the network unchanged. The history records the strength of the noise as `sigma`.

    Parameters
    ----------
    sigma : float, default=0.1
        Size of the noise relative to the merged weight at the end of training.
    sigma_schedule : {"cosine", "linear", "constant"} or callable, default="cosine"
        How the strength of the noise grows during training. A callable maps the completed fraction
        of the training to a factor of `sigma`.
    perturbation : {"weight", "local"}, default="weight"
        "weight" draws one noise sample for the weights, shared by all samples of a batch. "local"
        draws noise on the outputs of linear layers for each sample, which is cheaper for small
        batches and has less variance; positions of one sample, such as tokens, then get independent
        noise. Convolutions, and the layers of peft, always get "weight" noise.
    store_noise : bool, default=False
        Whether to keep a noisy copy of each weight during a step, which halves the number of
        random draws.
    random_state : int, RandomState instance or None, default=None
        Seeds the noise. No global generator is changed. Pass an int for reproducible results
        across calls.

    See Also
    --------
    FlatLoRAClassifier : Adapters and noise in one estimator.

    References
    ----------
    .. [1] T. Li, Z. He, Y. Li, Y. Wang, L. Shang, X. Huang, "Flat-LoRA: Low-Rank Adaptation over a
       Flat Loss Landscape", ICML 2025, arXiv:2409.14396.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_ext import FlatLoRACallback
    >>> from sklearn_ext.lora import inject_lora
    >>> from sklearn_ext.neural import MLP, NetClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> module = inject_lora(MLP(4, 3), r=2, modules_to_save=["5"], random_state=0)
    >>> net = NetClassifier(module, callbacks=[FlatLoRACallback(random_state=0)], random_state=0)
    >>> net.fit(X, y).score(X, y) > 0.8
    True
    """

    def __init__(
        self,
        sigma: float = 0.1,
        *,
        sigma_schedule: str | Callable[[float], float] = "cosine",
        perturbation: str = "weight",
        store_noise: bool = False,
        random_state: RandomState = None,
    ) -> None:
        self.sigma = sigma
        self.sigma_schedule = sigma_schedule
        self.perturbation = perturbation
        self.store_noise = store_noise
        self.random_state = random_state

    def initialize(self) -> Self:
        """Start without noise; skorch calls this method when the net is initialized.

        Returns
        -------
        self : object
        """
        self._noise: NoiseProcess | None = None
        return self

    def on_train_begin(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        """Find the adapted layers and begin the schedule.

        Parameters
        ----------
        net : skorch.NeuralNet
        **kwargs
            Not used.
        """
        self._close()
        config = NoiseConfig(
            sigma=self.sigma,
            sigma_schedule=self.sigma_schedule,
            perturbation=self.perturbation,
            store_noise=self.store_noise,
        )
        seed = draw_seed(self.random_state)
        self._noise = NoiseProcess(noisy_layers(net.module_), config, seed=seed)
        self._noise.watch(getattr(net, f"{name}_") for name in net._optimizers)
        self._progress = TrainingProgress(net.max_epochs)

    def on_epoch_begin(
        self, net: skorch.NeuralNet, dataset_train: Any = None, **kwargs: Any
    ) -> None:
        """Count the batches of an epoch for the schedule.

        Parameters
        ----------
        net : skorch.NeuralNet
        dataset_train : torch.utils.data.Dataset or None, default=None
        **kwargs
            Not used.
        """
        self._progress.begin_epoch(n_training_batches(net, dataset_train))

    def on_batch_begin(self, net: skorch.NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Apply the noise of the step to the layers.

        Parameters
        ----------
        net : skorch.NeuralNet
        training : bool, default=False
            Validation batches get no noise.
        **kwargs
            Not used.
        """
        if training and self._noise is not None:
            self._noise.refresh(self._progress.fraction)
            self._noise.apply()

    def on_batch_end(self, net: skorch.NeuralNet, training: bool = False, **kwargs: Any) -> None:
        """Remove the noise and record its strength.

        Parameters
        ----------
        net : skorch.NeuralNet
        training : bool, default=False
            Validation batches get no noise.
        **kwargs
            Not used.
        """
        if training and self._noise is not None:
            self._progress.end_batch()
            self._noise.remove()
            net.history.record_batch("sigma", self._noise.strength)
            net.history.record("sigma", self._noise.strength)

    def on_train_end(self, net: skorch.NeuralNet, **kwargs: Any) -> None:
        """Free the memory of the noise.

        Parameters
        ----------
        net : skorch.NeuralNet
        **kwargs
            Not used.
        """
        self._close()

    def _close(self) -> None:
        if self._noise is not None:
            self._noise.close()
            self._noise = None


def noisy_layers(module: nn.Module) -> list[NoisyLayer]:
    """Return the adapted layers of a module, including those of peft.

    Raises
    ------
    ValueError
        If no adapted layer can take noise.
    """
    own: list[NoisyLayer] = list(lora_layers(module).values())
    if own:
        return own
    found = {name: PeftLayer(m) for name, m in module.named_modules() if is_peft_layer(m)}
    refused = [name for name, layer in found.items() if not layer.takes_noise]
    if refused:
        warn_caller(f"These adapted layers get no noise: {refused}.")
    if len(found) == len(refused):
        raise ValueError(
            f"{type(module).__name__} has no adapted layer that takes noise; add adapters with "
            "sklearn_ext.lora.inject_lora or with peft."
        )
    return list(found.values())
