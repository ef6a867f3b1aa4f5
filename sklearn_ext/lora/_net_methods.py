"""Methods of both Flat-LoRA nets, as functions of a net.

The classes in `_estimators` assign these functions as their methods. A common base class would give
each net a second ancestor in this package. The private functions turn the attributes of a net into
arguments of the algorithms, which do not refer to nets: adapters are in `_injection`, the noise and
the expected sharpness in `_noise_process`, pretrained weights in `_pretrained`, and stored adapters
in `_adapter_files`.
"""

import contextlib
import copy
import inspect
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import check_is_fitted
from skorch.dataset import get_len, unpack_data
from torch import nn

from ..neural import (
    AnySamples,
    ConventionalNet,
    CosineDecay,
    draw_seed,
    seeded,
    validate_input,
)
from ..utils._atomic import atomic_fit
from ..utils._random import local_random_state
from ..utils._typing import FloatArray, RandomState
from ..utils._warnings import warn_caller
from ._adapter_files import (
    attributes_to_metadata,
    load_lora_state_dict,
    read_adapter,
    save_adapter as write_adapter,
    set_attributes,
)
from ._config import AdapterConfig, NoiseConfig
from ._injection import (
    frozen_norms,
    initialize_from_gradients,
    inject,
    is_factor_b,
    lora_layers,
    merge_lora,
)
from ._noise import SCHEDULES, sigma_for
from ._noise_process import (
    NoiseProcess,
    TrainingProgress,
    expected_sharpness as sharpness_of_layers,
    n_training_batches,
)
from ._pretrained import load_pretrained, pretrained_state
from .layers import norm_layers, saved_modules

_N_FIRST_BATCHES = 8  # whose gradients initialize the factors of LoRA-GA
_CONSTRAINTS: dict[str, list[Any]] = {
    "r": [Interval(Integral, 1, None, closed="left")],
    "lora_alpha": [Interval(Real, 0, None, closed="neither")],
    "lora_dropout": [Interval(Real, 0, 1, closed="left")],
    "use_rslora": ["boolean"],
    "target_modules": [str, list, tuple],
    "exclude_modules": [str, list, tuple, None],
    "modules_to_save": [list, tuple, None],
    "train_bias": [StrOptions({"none", "all", "lora_only"})],
    "train_norm": ["boolean"],
    "use_dora": ["boolean"],
    "init_lora_weights": ["boolean", StrOptions({"gaussian", "pissa", "olora", "lora_ga"})],
    "lr_ratio": [Interval(Real, 0, None, closed="neither")],
    "sigma": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
    "sigma_schedule": [StrOptions(set(SCHEDULES)), callable],
    "perturbation": [StrOptions({"weight", "local"})],
    "store_noise": ["boolean"],
    "n_noise": [Interval(Integral, 1, None, closed="left")],
}
_SHARPNESS_CONSTRAINTS: dict[str, list[Any]] = {
    "sigma": [Interval(Real, 0, None, closed="left")],
    "n_draws": [Interval(Integral, 1, None, closed="left")],
}


def set_attribute(self: Any, name: str, value: Any) -> None:
    """Set an attribute; skorch would mistake a module in `pretrained` for a part of the net."""
    if name == "pretrained":
        object.__setattr__(self, name, value)
    else:
        ConventionalNet.__setattr__(self, name, value)


def set_params(self: Any, **params: Any) -> Any:
    """Set parameters; see :meth:`skorch.NeuralNet.set_params`.

    Parameters
    ----------
    **params
        Values by name.

    Returns
    -------
    self : object
    """
    # skorch would mistake a name that begins with "module" for a parameter of the module.
    if "modules_to_save" in params:
        self.modules_to_save = params.pop("modules_to_save")
    ConventionalNet.set_params(self, **params)
    return self


def get_params_for(self: Any, prefix: str) -> dict[str, Any]:
    """Collect the constructor arguments of a part of the net.

    A module class whose constructor has parameters `n_features` or `n_outputs` receives them
    from the data, unless they are given.

    Parameters
    ----------
    prefix : str
        Name of the part, such as "module".

    Returns
    -------
    dict
    """
    params = ConventionalNet.get_params_for(self, prefix)
    if prefix != "module" or not hasattr(self, "n_outputs_"):
        return params
    return _sizes_for(self.module, self.input_shape_, self.n_outputs_) | params


def initialize_module(self: Any) -> Any:
    """Build the module, load the pretrained weights, freeze them, and add adapters.

    Returns
    -------
    self : object
    """
    _check_parameters(self)
    ConventionalNet.initialize_module(self)
    stored = self._config_to_load
    config = _adapter_config(self) if stored is None else stored
    _insert_adapters(self, config, is_stored=stored is not None)
    return self


def get_all_learnable_params(self: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the trainable parameters by name, for the optimizer and for callbacks.

    Yields
    ------
    tuple of str and torch.nn.Parameter
    """
    for name, parameter in ConventionalNet.get_all_learnable_params(self):
        if parameter.requires_grad:
            yield name, parameter


def get_params_for_optimizer(
    self: Any, prefix: str, named_parameters: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Collect the arguments of an optimizer, with a group for the factors B if `lr_ratio` is not 1.

    Parameters
    ----------
    prefix : str
        Name of the optimizer.
    named_parameters : iterable of pairs of str and torch.nn.Parameter

    Returns
    -------
    args : tuple
    kwargs : dict
    """
    named = list(named_parameters)
    (groups,), kwargs = ConventionalNet.get_params_for_optimizer(self, prefix, named)
    if self.lr_ratio == 1:
        return (groups,), kwargs
    fast = {parameter for name, parameter in named if is_factor_b(name)}
    split = []
    for group in groups:
        rate = group.get("lr", kwargs["lr"])
        for is_fast, lr in ((False, rate), (True, rate * self.lr_ratio)):
            chosen = [p for p in group["params"] if (p in fast) == is_fast]
            if chosen:
                split.append(group | {"params": chosen, "lr": lr})
    return (split,), kwargs


def on_train_begin(self: Any, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
    """Initialize the factors from the gradients of the first batches, if "lora_ga" is set.

    Parameters
    ----------
    net : skorch.NeuralNet
    X : object, default=None
        As in `fit`.
    y : array-like, default=None
        As in `fit`.
    **kwargs
        Passed to the method of skorch.
    """
    ConventionalNet.on_train_begin(self, net, X=X, y=y, **kwargs)
    if _adapter_config(self).init_lora_weights == "lora_ga" and not len(self.history):
        _initialize_from_gradients(self, X, y)


@contextlib.contextmanager
def training_context(self: Any) -> Iterator[None]:
    """Keep the noise and the progress of training in the net while it trains."""
    is_continued = self.warm_start and len(self.history_) > 0
    self._progress = TrainingProgress(self.max_epochs, is_complete=is_continued)
    with _noise_process(self) as self._noise:
        yield
    del self._progress, self._noise


def set_training(self: Any, training: bool = True) -> None:
    """Switch the mode of the net, but leave frozen normalization layers in evaluation mode."""
    ConventionalNet._set_training(self, training)
    if training:
        for norm in frozen_norms(self.module_):
            norm.eval()


def on_epoch_begin(self: Any, net: Any, dataset_train: Any = None, **kwargs: Any) -> None:
    """Count the batches of an epoch for the schedule of the noise.

    Parameters
    ----------
    net : skorch.NeuralNet
    dataset_train : torch.utils.data.Dataset or None, default=None
    **kwargs
        Passed to the method of skorch.
    """
    ConventionalNet.on_epoch_begin(self, net, dataset_train=dataset_train, **kwargs)
    self._progress.begin_epoch(n_training_batches(self, dataset_train))


def on_batch_end(self: Any, net: Any, training: bool = False, **kwargs: Any) -> None:
    """Record the strength of the noise in the history.

    Parameters
    ----------
    net : skorch.NeuralNet
    training : bool, default=False
    **kwargs
        Passed to the method of skorch.
    """
    ConventionalNet.on_batch_end(self, net, training=training, **kwargs)
    if training:
        self._progress.end_batch()
        self.history_.record_batch("sigma", self._noise.strength)
        self.history_.record("sigma", self._noise.strength)


def train_step_single(self: Any, batch: Any, **fit_params: Any) -> dict[str, Any]:
    """Compute the loss of a batch and its gradients under the noise of the step.

    Parameters
    ----------
    batch : tuple
        Samples and targets.
    **fit_params
        Passed to the module.

    Returns
    -------
    dict
        The mean `loss` over the draws, and `y_pred` of the last draw.

    Raises
    ------
    ValueError
        If the loss is not finite.
    """
    self._noise.refresh(self._progress.fraction)
    return _averaged_step(self, self._noise, batch, fit_params)


def sigma_history(self: Any) -> FloatArray:
    """Strength of the noise in each training batch, of shape (n_batches,)."""
    check_is_fitted(self)
    batches = (batch for epoch in self.history_ for batch in epoch["batches"])
    return np.array([batch["sigma"] for batch in batches if "sigma" in batch])


def merge(self: Any) -> Any:
    """Predict with the merged weights from now on, which is faster.

    The frozen weights and the factors are kept, and :meth:`unmerge` restores the previous state
    exactly.

    Returns
    -------
    self : object
    """
    check_is_fitted(self)
    for layer in lora_layers(self.module_).values():
        layer.merge()
    return self


def unmerge(self: Any) -> Any:
    """Predict with the frozen weights and the factors again.

    Returns
    -------
    self : object
    """
    check_is_fitted(self)
    for layer in lora_layers(self.module_).values():
        layer.unmerge()
    return self


def merged_module(self: Any) -> nn.Module:
    """Return a copy of the trained network in which all layers are plain.

    Returns
    -------
    torch.nn.Module
        In evaluation mode, with all parameters trainable.
    """
    check_is_fitted(self)
    return merge_lora(copy.deepcopy(self.module_)).eval()


def expected_sharpness(
    self: Any,
    X: AnySamples,
    y: ArrayLike | None = None,
    *,
    sigma: float = 0.1,
    n_draws: int = 20,
) -> float:
    r"""Estimate how much noise on the merged weights raises the loss.

    The result is the mean of :math:`L(W' + \varepsilon) - L(W')` over draws of the noise. Use
    it to compare networks of the same architecture whose losses are similar.

    Parameters
    ----------
    X : array-like, tensor, dict of arrays, or Dataset
        As in `fit`.
    y : array-like, default=None
        As in `fit`.
    sigma : float, default=0.1
        Size of the noise relative to the merged weights.
    n_draws : int, default=20
        Number of draws.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If `sigma` is negative or `n_draws` is less than 1.
    """
    return _sharpness(self, X, y, sigma=sigma, n_draws=n_draws)


def save_adapter(self: Any, path: str | os.PathLike) -> None:
    """Save the trained parameters to a folder in peft's format.

    The files are ``adapter_model.safetensors`` and ``adapter_config.json``. The first file also
    stores the classes and the shape of the data, which :meth:`load_adapter` needs and peft ignores.

    Parameters
    ----------
    path : str or path-like
        Folder, which is created if it does not exist.
    """
    check_is_fitted(self)
    metadata = attributes_to_metadata(self)
    write_adapter(self.module_, path, metadata=metadata)


@atomic_fit
def load_adapter(
    self: Any, path: str | os.PathLike, X: AnySamples = None, y: ArrayLike | None = None
) -> Any:
    """Build the network anew and load the adapters in a folder.

    The folder may have been written by :meth:`save_adapter` or by peft's ``save_pretrained``.
    Its configuration is used in place of this estimator's parameters.

    Parameters
    ----------
    path : str or path-like
        Folder.
    X : array-like, tensor, dict of arrays, Dataset or None, default=None
        Some samples, as in `fit`. They are required if peft wrote the folder and this
        estimator has not been fitted, because their shape is then unknown.
    y : array-like or None, default=None
        Targets of `X`, which contain all classes.

    Returns
    -------
    self : object
        The fitted estimator.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, if the files do not belong together, if the adapter does not fit the
        network, or if the shape of the data is unknown.
    """
    _load_adapter(self, path, X, y)
    return self


def paper_params() -> dict[str, Any]:
    """Return the parameters of the language experiments of the paper."""
    return {
        "r": 8,
        "lora_alpha": 16,
        "sigma": 0.05,
        "sigma_schedule": "cosine",
        "perturbation": "weight",
        "n_noise": 1,
        "lr": 5e-4,
        "callbacks": [("learning_rate", CosineDecay(floor=0.0))],
    }


def _check_parameters(net: Any) -> None:
    params = {name: getattr(net, name) for name in _CONSTRAINTS}
    validate_parameter_constraints(_CONSTRAINTS, params, caller_name=type(net).__name__)


def _adapter_config(net: Any) -> AdapterConfig:
    if isinstance(net.lora_config, AdapterConfig):
        return net.lora_config
    if net.lora_config is not None:
        return AdapterConfig.from_peft(net.lora_config)
    return AdapterConfig(
        r=net.r,
        lora_alpha=net.lora_alpha,
        lora_dropout=net.lora_dropout,
        use_rslora=net.use_rslora,
        target_modules=net.target_modules,
        exclude_modules=net.exclude_modules,
        modules_to_save=() if net.modules_to_save is None else tuple(net.modules_to_save),
        train_bias=net.train_bias,
        use_dora=net.use_dora,
        init_lora_weights=net.init_lora_weights,
    )


def _noise_config(net: Any) -> NoiseConfig:
    return NoiseConfig(
        sigma=sigma_for(net.sigma, net.max_epochs),
        sigma_schedule=net.sigma_schedule,
        perturbation=net.perturbation,
        store_noise=net.store_noise,
        n_noise=net.n_noise,
    )


def _derived_seeds(random_state: RandomState) -> tuple[int, int]:
    """Return the seeds of the factors and of the noise; `fit` itself uses the first draw."""
    rng = local_random_state(random_state)
    _, factors, noise = (draw_seed(rng) for _ in range(3))
    return factors, noise


def _sizes_for(module: Any, input_shape: tuple[int, ...] | None, n_outputs: int) -> dict[str, int]:
    """Return the sizes of the data that the constructor of a module class accepts."""
    if isinstance(module, nn.Module) or not callable(module):
        return {}
    sizes = {"n_outputs": n_outputs}
    if input_shape is not None:
        sizes["n_features"] = math.prod(input_shape)
    names = inspect.signature(module).parameters
    return {name: size for name, size in sizes.items() if name in names}


def _initialize_from_gradients(net: Any, X: Any, y: Any) -> None:
    dataset, _ = net.get_split_datasets(X, y)

    def backward() -> None:
        net._set_training(True)
        for batch in itertools.islice(net.get_iterator(dataset, training=True), _N_FIRST_BATCHES):
            inputs, targets = unpack_data(batch)
            net.get_loss(net.infer(inputs), targets, X=inputs, training=True).backward()

    initialize_from_gradients(net.module_, backward)


def _insert_adapters(net: Any, config: AdapterConfig, *, is_stored: bool) -> None:
    """Load the pretrained weights into the module of a net and add adapters to it."""
    module = net.module_
    if net.pretrained is not None:
        replaceable = list(saved_modules(module, config))
        if net.train_norm:
            replaceable += [name for name, _ in norm_layers(module)]
        load_pretrained(module, pretrained_state(net.pretrained), replaceable)
    elif not isinstance(net.module, nn.Module) or net.get_params_for("module"):
        warn_caller("pretrained is None, so the base weights are random.")
    seed, _ = _derived_seeds(net.random_state)
    inject(module, config, train_norm=net.train_norm, is_stored=is_stored, random_state=seed)
    layers = lora_layers(module)
    net.lora_layers_ = {
        name: {"shape": tuple(layer.base_layer.weight.shape), "r": layer.r}
        for name, layer in layers.items()
    }
    net.target_modules_ = list(layers)
    net.n_total_ = sum(p.numel() for p in module.parameters())
    net.n_trainable_ = sum(p.numel() for p in module.parameters() if p.requires_grad)


@contextlib.contextmanager
def _noise_process(net: Any) -> Iterator[NoiseProcess]:
    """Provide the noise of a training run of a net."""
    _check_parameters(net)
    layers = lora_layers(net.module_).values()
    for layer in layers:
        layer.unmerge()
    _, seed = _derived_seeds(net.random_state)
    with contextlib.closing(NoiseProcess(layers, _noise_config(net), seed=seed)) as noise:
        noise.watch(getattr(net, f"{name}_") for name in net._optimizers)
        yield noise


def _averaged_step(
    net: Any, noise: NoiseProcess, batch: Any, fit_params: Mapping[str, Any]
) -> dict[str, Any]:
    """Compute the loss and its gradients, averaged over the draws of the noise."""
    net._set_training(True)
    X, y = unpack_data(batch)
    losses = []
    for draw in range(net.n_noise):
        with noise.applied(draw):
            y_pred = net.infer(X, **fit_params)
            loss = net.get_loss(y_pred, y, X=X, training=True) / net.n_noise
            noise.check_loss(loss)
            loss.backward()
        losses.append(loss.detach())
    return {"loss": torch.stack(losses).sum(), "y_pred": y_pred}


def _sharpness(
    net: Any, X: AnySamples, y: ArrayLike | None, *, sigma: float, n_draws: int
) -> float:
    check_is_fitted(net)
    validate_parameter_constraints(
        _SHARPNESS_CONSTRAINTS,
        {"sigma": sigma, "n_draws": n_draws},
        caller_name=f"{type(net).__name__}.expected_sharpness",
    )
    X, y = validate_input(net, X, y, reset=False, any_form=True)
    dataset = net.get_dataset(X, net._encode(y, False, None))
    layers = lora_layers(net.module_).values()
    _, seed = _derived_seeds(net.random_state)

    def loss() -> float:
        total, n_samples = 0.0, 0
        for batch in net.get_iterator(dataset, training=False):
            size = get_len(batch[0])
            total += net.validation_step(batch)["loss"].item() * size
            n_samples += size
        return total / n_samples

    return sharpness_of_layers(loss, layers, sigma=sigma, n_draws=n_draws, seed=seed)


@contextlib.contextmanager
def _config_for_initialize(net: Any, config: AdapterConfig) -> Iterator[None]:
    """Let `initialize_module` insert the adapters of `config`; skorch passes it no arguments."""
    net._config_to_load = config
    try:
        yield
    finally:
        net._config_to_load = None


def _load_adapter(net: Any, path: str | os.PathLike, X: Any, y: Any) -> None:
    """Initialize a net with the adapters in a folder."""
    adapter = read_adapter(path)
    if X is not None:
        X, y = validate_input(net, X, y, reset=True, any_form=True)
        net._encode(y, True, None)
    elif adapter.attributes is not None:
        set_attributes(net, adapter.attributes)
    elif not hasattr(net, "n_outputs_"):
        raise ValueError(
            f"{str(path)!r} does not contain the shape of the data, and the estimator is not "
            "fitted. Pass some samples X and their y."
        )
    seed, _ = _derived_seeds(net.random_state)
    with _config_for_initialize(net, adapter.config), seeded(seed, net.device):
        net.initialize()
    load_lora_state_dict(net.module_, adapter.tensors)
