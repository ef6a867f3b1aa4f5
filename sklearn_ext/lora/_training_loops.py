"""The noise in training loops: your own, those of skorch nets, and the Trainer of transformers.

The network may have adapters of this package or of peft.
"""

import contextlib
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any, Self

import skorch
import torch
from skorch.callbacks import Callback
from torch import nn

from ..neural import draw_seed
from ..utils._typing import RandomState
from ..utils._warnings import warn_caller
from ._config import NoiseConfig
from ._injection import lora_layers
from ._noise import sigma_for
from ._noise_process import NoiseProcess, NoisyLayer, TrainingProgress, n_training_batches
from .layers import PeftLayer, is_peft_layer, norm_layers


@contextlib.contextmanager
def flat_lora(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    sigma: float,
    total_steps: int,
    sigma_schedule: str | Callable[[float], float] = "cosine",
    perturbation: str = "weight",
    store_noise: bool = False,
    random_state: RandomState = None,
) -> Iterator[NoiseProcess]:
    r"""Train the adapters of a model under noise on the merged weights, in a loop of your own.

    Inside the ``with`` block, the adapted layers of a model in training mode compute with
    :math:`W + s B A + \varepsilon` [1]_. The noise stays the same until `optimizer` has made an
    update, so all batches whose gradients are accumulated share it, and gradient checkpointing
    computes with it again. No weight is overwritten, and in evaluation mode there is no noise. The
    end of the block removes it, also after an exception.

    Parameters
    ----------
    model : torch.nn.Module
        A network with adapters from :func:`inject_lora` or from peft. It may be compiled.
    optimizer : torch.optim.Optimizer
        The optimizer of the adapters, whose updates are counted. If a library wraps it, pass the
        optimizer of torch inside.
    sigma : float
        Size of the noise relative to the merged weight at the end of training; see
        :func:`lora.default_sigma`.
    total_steps : int
        Number of updates in the whole training run, over which the noise grows.
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

    Yields
    ------
    NoiseProcess
        Its attributes `strength` and `n_updates` describe the current step.

    Raises
    ------
    ValueError
        If the model has no adapted layer that takes noise, or if a number is out of range.

    See Also
    --------
    FlatLoRACallback : The same noise for skorch nets.
    FlatLoRATrainerCallback : The same noise in the Trainer of transformers.

    References
    ----------
    .. [1] T. Li, Z. He, Y. Li, Y. Wang, L. Shang, X. Huang, "Flat-LoRA: Low-Rank Adaptation over a
       Flat Loss Landscape", ICML 2025, arXiv:2409.14396.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext import flat_lora
    >>> from sklearn_ext.lora import inject_lora
    >>> from sklearn_ext.neural import MLP
    >>> model = inject_lora(MLP(4, 2), r=2, random_state=0)
    >>> optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad])
    >>> X, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
    >>> with flat_lora(model, optimizer, sigma=0.1, total_steps=10, random_state=0) as noise:
    ...     for step in range(10):
    ...         optimizer.zero_grad()
    ...         torch.nn.functional.cross_entropy(model(X), y).backward()
    ...         _ = optimizer.step()
    >>> noise.n_updates, noise.strength
    (10, 0.1)
    """
    config = NoiseConfig(
        sigma=sigma,
        sigma_schedule=sigma_schedule,
        perturbation=perturbation,
        store_noise=store_noise,
    )
    seed = draw_seed(random_state)
    with contextlib.closing(NoiseProcess(noisy_layers(model), config, seed=seed)) as noise:
        noise.follow(optimizer, _check_total_steps(total_steps))
        yield noise


def _check_total_steps(total_steps: Any) -> int:
    is_integer = isinstance(total_steps, Integral) and not isinstance(total_steps, bool)
    if not is_integer or total_steps < 1:
        raise ValueError(f"total_steps must be a positive integer, got {total_steps!r}.")
    return int(total_steps)


class FlatLoRACallback(Callback):
    r"""Train the adapters of a skorch net under noise on the merged weights.

    Use it for nets whose module already has adapters, either from
    :func:`~sklearn_ext.lora.inject_lora` or from peft. During each training step, the layers
    compute with :math:`W + s B A + \varepsilon` [1]_. No weight is overwritten, so an interrupted
    step leaves the network unchanged. The history records the strength of the noise as `sigma`.

    Parameters
    ----------
    sigma : float or "auto", default="auto"
        Size of the noise relative to the merged weight at the end of training. "auto" is 0.1 for 20
        epochs and more, and proportionally less for fewer; see :func:`lora.default_sigma`.
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
    flat_lora : The same noise in a training loop of your own.
    FlatLoRATrainerCallback : The same noise in the Trainer of transformers.

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
        sigma: float | str = "auto",
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
            sigma=sigma_for(self.sigma, net.max_epochs),
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


class FlatLoRATrainerCallback:
    r"""Train the adapters of a model under noise, in the Trainer of Hugging Face's transformers.

    Use it for models with adapters from :func:`~sklearn_ext.lora.inject_lora` or from peft. During
    training, the adapted layers compute with :math:`W + s B A + \varepsilon` [1]_. The noise
    changes with each update of the optimizer, and stays the same while gradients are accumulated.
    No weight is overwritten; evaluation and checkpoints are free of noise. The log history of the
    Trainer records the strength of the noise as `sigma`. A training that is resumed from a
    checkpoint continues the noise where it stopped.

    Parameters
    ----------
    sigma : float or "auto", default="auto"
        Size of the noise relative to the merged weight at the end of training. "auto" is 0.1 for 20
        epochs and more, and proportionally less for fewer; see :func:`lora.default_sigma`.
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
    flat_lora : The same noise in a training loop of your own.
    FlatLoRACallback : The same noise for skorch nets.

    Notes
    -----
    The Trainer does not notify its callbacks of an exception. If training fails, call :meth:`close`
    before you train the same model without this callback. Another call of ``trainer.train()``
    starts the noise anew.

    References
    ----------
    .. [1] T. Li, Z. He, Y. Li, Y. Wang, L. Shang, X. Huang, "Flat-LoRA: Low-Rank Adaptation over a
       Flat Loss Landscape", ICML 2025, arXiv:2409.14396.

    Examples
    --------
    Pass it to the Trainer like any other callback:

    >>> from sklearn_ext import FlatLoRATrainerCallback
    >>> callback = FlatLoRATrainerCallback(sigma=0.05, random_state=0)
    >>> trainer = Trainer(model, callbacks=[callback], ...)  # doctest: +SKIP
    """

    def __init__(
        self,
        sigma: float | str = "auto",
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
        self._noise: NoiseProcess | None = None

    def __getattr__(self, name: str) -> Any:
        # The Trainer calls a method for each of its events, whose number grows with its versions.
        # Its own base class cannot be used, because transformers is an optional dependency.
        if name.startswith("on_"):
            return _ignore_event
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        *,
        model: nn.Module,
        optimizer: Any,
        **kwargs: Any,
    ) -> None:
        """Find the adapted layers and begin the schedule.

        Parameters
        ----------
        args, state, control : object
            Objects of the Trainer. `state` has the number of updates.
        model : torch.nn.Module
        optimizer : torch.optim.Optimizer
        **kwargs
            Not used.
        """
        self.close()
        config = NoiseConfig(
            sigma=sigma_for(self.sigma, state.num_train_epochs),
            sigma_schedule=self.sigma_schedule,
            perturbation=self.perturbation,
            store_noise=self.store_noise,
        )
        seed = draw_seed(self.random_state)
        self._noise = NoiseProcess(noisy_layers(model), config, seed=seed)
        while hasattr(optimizer, "optimizer"):  # accelerate wraps the optimizer of torch
            optimizer = optimizer.optimizer
        self._noise.follow(optimizer, state.max_steps, first_step=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the strength of the noise in the log history.

        Parameters
        ----------
        args, state, control : object
            Objects of the Trainer.
        **kwargs
            Not used.
        """
        if self._noise is not None and state.log_history:
            state.log_history[-1]["sigma"] = self._noise.strength

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Remove the noise.

        Parameters
        ----------
        args, state, control : object
            Objects of the Trainer.
        **kwargs
            Not used.
        """
        self.close()

    def close(self) -> None:
        """Remove the noise from the model, and free its memory."""
        if self._noise is not None:
            self._noise.close()
            self._noise = None


def _ignore_event(*args: Any, **kwargs: Any) -> None:
    return None


def noisy_layers(module: nn.Module) -> list[NoisyLayer]:
    """Return the adapted layers of a module, including those of peft.

    Raises
    ------
    ValueError
        If no adapted layer can take noise.
    """
    own: list[NoisyLayer] = list(lora_layers(module).values())
    if any(layer.takes_noise for layer in own):
        return own
    found = {name: PeftLayer(m) for name, m in module.named_modules() if is_peft_layer(m)}
    refused = [name for name, layer in found.items() if not layer.takes_noise]
    if refused:
        warn_caller(f"These adapted layers get no noise: {refused}.")
    saved = [name for name, part in module.named_modules() if hasattr(part, "modules_to_save")]
    lost = [
        name
        for name, _ in norm_layers(module)
        if not any(name.startswith(f"{other}.") for other in saved)
    ]
    if found and lost:
        warn_caller(
            f"peft does not store the running statistics of {lost}, which training changes. Add "
            "the layers to modules_to_save, or keep them in evaluation mode."
        )
    if len(found) == len(refused):
        raise ValueError(
            f"{type(module).__name__} has no adapted layer that takes noise; add adapters with "
            "sklearn_ext.lora.inject_lora or with peft."
        )
    return list(found.values())
