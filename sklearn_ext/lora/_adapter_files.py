"""Files of adapters in peft's format: a safetensors file and a JSON file in one folder."""

import dataclasses
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..neural import LazyTensors, load_tensors
from ..neural.files import (
    checked_fields,
    integer,
    items,
    labels,
    labels_as_json,
    locked_folder,
    optional,
    parse_json,
    read_file,
    replacing,
    synchronize,
    text,
    write_tensors,
)
from ._config import AdapterConfig
from ._injection import (
    adapter_config_of,
    changed_modules,
    inject,
    lora_layers,
    unchanged_on_error,
)
from .layers import LoRAEmbedding, LoRALayer, is_linear, saved_modules

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PREFIX = "base_model.model."
_METADATA_KEY = "sklearn_ext"
_CONFIG_KEY = "sklearn_ext.adapter_config"
# Initializations that leave the weight unchanged, or that peft does not repeat when it reads an
# adapter. The factors in the file replace the initial ones.
_STORED_METHODS = {"gaussian": True, "eva": True, "orthogonal": True, "lora_ga": True}
# If biases are trained, peft writes those of a saved module a second time, under these names.
_PEFT_COPIES = {"modules_to_save", "original_module"}


def lora_state_dict(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the trained tensors of a network, under the names that peft uses.

    Parameters
    ----------
    module : torch.nn.Module
        A network with adapters from :func:`inject_lora`.

    Returns
    -------
    dict of str to tensor
        The factors ``base_model.model.<layer>.lora_A.weight`` and ``.lora_B.weight``, the trained
        biases, and the state of `modules_to_save` and of layers whose running statistics have
        changed. The tensors share memory with the module, except factors whose initial product is
        subtracted: these have twice the rank, so that they fit the original weights.

    Raises
    ------
    ValueError
        If the network has no adapters.

    Examples
    --------
    >>> from sklearn_ext.lora import inject_lora, lora_state_dict
    >>> from sklearn_ext.neural import MLP
    >>> module = inject_lora(MLP(20, 3), target_modules=["1"], random_state=0)
    >>> list(lora_state_dict(module))
    ['base_model.model.1.lora_A.weight', 'base_model.model.1.lora_B.weight']
    """
    state = _own_tensors(module)
    for name, layer in lora_layers(module).items():
        if layer.initial_a is not None:
            A, B = layer.factors()
            state[f"{_PREFIX}{name}.lora_A.weight"] = A.detach()
            state[f"{_PREFIX}{name}.lora_B.weight"] = B.detach()
    return state


def _own_tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the trained tensors of a network as they are, under the names that peft uses."""
    config = required_config(module)
    saved = (*saved_modules(module, config), *changed_modules(module))
    saved = tuple(f"{name}." for name in saved)
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    factors = {
        f"{name}.{own}": f"{name}.{stored}"
        for name, layer in lora_layers(module).items()
        for own, stored in _names_of_factors(layer).items()
    }
    return {
        _PREFIX + factors.get(name, name): tensor
        for name, tensor in module.state_dict().items()
        if name in factors or name.startswith(saved) or (name in trained and name.endswith("bias"))
    }


def _names_of_factors(layer: LoRALayer) -> dict[str, str]:
    """Return the names of the trained tensors of a layer in files, by those in its state."""
    vector = {"lora_magnitude_vector.weight": "lora_magnitude_vector"}
    if isinstance(layer, LoRAEmbedding):
        return {"lora_A.weight": "lora_embedding_A", "lora_B.weight": "lora_embedding_B"}
    factors = ("lora_A.weight", "lora_B.weight")
    return {name: name for name in factors} | (
        {} if layer.lora_magnitude_vector is None else vector
    )


def save_adapter(
    module: nn.Module, path: str | os.PathLike, *, metadata: dict[str, str] | None = None
) -> None:
    """Save the adapters of a network to a folder that peft can read.

    ``peft.PeftModel.from_pretrained(plain_module, path)`` then computes the same outputs as
    `module`. Convolutions with groups or dilation are an exception, because peft does not support
    them. Layers whose running statistics have changed, such as batch normalization, are stored with
    the adapter, as one of `modules_to_save`.

    Parameters
    ----------
    module : torch.nn.Module
        A network with adapters from :func:`inject_lora`.
    path : str or path-like
        Folder, which is created if it does not exist. Any adapter in it is replaced. A process that
        is killed leaves either the old adapter or the new one: the weights file also contains the
        configuration, and :func:`load_adapter` does not need ``adapter_config.json``.
    metadata : dict of str to str or None, default=None
        Text stored in the header of the safetensors file.

    Raises
    ------
    ValueError
        If the network has no adapters.

    Examples
    --------
    >>> import os, tempfile
    >>> from sklearn_ext.lora import inject_lora, save_adapter
    >>> from sklearn_ext.neural import MLP
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_adapter(inject_lora(MLP(20, 3), random_state=0), folder)
    ...     sorted(os.listdir(folder))
    ['adapter_config.json', 'adapter_model.safetensors']
    """
    tensors = lora_state_dict(module)
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    fields = json.dumps(_config_fields(module, required_config(module)), indent=2, sort_keys=True)
    header = {"format": "pt", **({} if metadata is None else metadata), _CONFIG_KEY: fields}
    with (
        locked_folder(path),
        replacing(path / CONFIG_FILE) as config_file,
        replacing(path / WEIGHTS_FILE) as weights_file,
    ):
        write_tensors(weights_file, tensors, header)
        config_file.write(fields.encode() + b"\n")
        for file in (weights_file, config_file):
            synchronize(file)  # an error leaves the earlier adapter as it was
        _complete_weights(path)
        # The weights are replaced first. If the process is killed before the configuration follows,
        # the folder has none, instead of that of the earlier adapter.
        (path / CONFIG_FILE).unlink(missing_ok=True)


def _complete_weights(path: Path) -> None:
    """Add the configuration of an adapter that peft wrote to the header of its weights.

    The weights then remain a readable adapter if the configuration file is lost.
    """
    weights, config = path / WEIGHTS_FILE, path / CONFIG_FILE
    if not (weights.is_file() and config.is_file()):
        return
    try:
        tensors, fields = LazyTensors(weights), config.read_text(encoding="utf-8")
    except ValueError:  # The earlier adapter is damaged, so nothing is lost with it.
        return
    if _CONFIG_KEY not in tensors.metadata:
        with replacing(weights) as file:
            write_tensors(file, tensors, tensors.metadata | {_CONFIG_KEY: fields})


def load_adapter(module: nn.Module, path: str | os.PathLike) -> nn.Module:
    """Add the adapters in a folder to a plain network, in place.

    The folder may have been written by :func:`save_adapter` or by peft's ``save_pretrained``. If
    the network was part of another module at that time, the names of its layers have a prefix,
    which is removed.

    Parameters
    ----------
    module : torch.nn.Module
        The network that the adapters were trained for, without adapters.
    path : str or path-like
        Folder.

    Returns
    -------
    torch.nn.Module
        `module`.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file is damaged, if the two files do not belong together, if the adapter is not a LoRA
        adapter or requests an unsupported feature, or if it does not fit the network, which then
        stays as it is.

    Examples
    --------
    >>> import copy, tempfile
    >>> from sklearn_ext.lora import inject_lora, load_adapter, save_adapter
    >>> from sklearn_ext.neural import MLP
    >>> plain = MLP(20, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_adapter(inject_lora(copy.deepcopy(plain), r=2, random_state=0), folder)
    ...     load_adapter(plain, folder)[1].r
    2
    """
    adapter = _unwrapped(read_adapter(path), module)
    with unchanged_on_error(module):
        inject(module, adapter.config, is_stored=True, random_state=0)
        load_lora_state_dict(module, adapter.tensors)
    return module


@dataclasses.dataclass(frozen=True)
class StoredAdapter:
    """The contents of a folder with an adapter.

    Attributes
    ----------
    config : AdapterConfig
    tensors : dict of str to tensor
    attributes : dict of str to object or None
        Fitted attributes of the estimator that saved the adapter. None if the file has none.
    """

    config: AdapterConfig
    tensors: dict[str, torch.Tensor]
    attributes: dict[str, Any] | None


def _unwrapped(adapter: StoredAdapter, module: nn.Module) -> StoredAdapter:
    """Return an adapter with names that fit a network, if the names of a wrapper do not."""
    names = {name for name, _ in module.named_modules()}
    layers = {
        name.removeprefix(_PREFIX).rpartition(".lora_")[0]
        for name in adapter.tensors
        if ".lora_" in name
    }
    if not layers or layers & names:
        return adapter
    parts = min(layers).split(".")
    prefixes = [".".join(parts[:k]) + "." for k in range(1, len(parts))]
    fitting = [p for p in prefixes if {name.removeprefix(p) for name in layers} <= names]
    if not fitting:
        return adapter
    prefix = fitting[0]
    config, pattern = adapter.config, f"^{re.escape(prefix)}"

    def unwrapped(patterns: Mapping[str, Any]) -> dict[str, Any]:
        return {
            f"^{key.removeprefix(pattern)}" if key.startswith(pattern) else key: value
            for key, value in patterns.items()
        }

    tensors = {
        name.replace(_PREFIX + prefix, _PREFIX, 1): tensor
        for name, tensor in adapter.tensors.items()
    }
    config = dataclasses.replace(
        config,
        target_modules=tuple(sorted(name.removeprefix(prefix) for name in layers)),
        modules_to_save=tuple(name.removeprefix(prefix) for name in config.modules_to_save),
        rank_pattern=unwrapped(config.rank_pattern),
        alpha_pattern=unwrapped(config.alpha_pattern),
    )
    return StoredAdapter(config, tensors, adapter.attributes)


def read_adapter(path: str | os.PathLike) -> StoredAdapter:
    """Read a folder that :func:`save_adapter` or peft wrote.

    Raises
    ------
    FileNotFoundError
        If a file is missing. A folder of :func:`save_adapter` may lack the configuration.
    ValueError
        If a file is damaged or invalid, or if the two files do not belong together.
    """
    path = Path(path)
    with locked_folder(path, shared=True):
        weights = LazyTensors(path / WEIGHTS_FILE)
        own, stored = (weights.metadata.get(key) for key in (_CONFIG_KEY, _METADATA_KEY))
        attributes = None if stored is None else _attributes_of(stored, weights.path)
        if own is None and attributes is not None:
            raise ValueError(f"{WEIGHTS_FILE} in {str(path)!r} must contain its configuration.")
        tensors = load_tensors(weights.path) if own is None else read_file(weights.path)[0]
        file = path / CONFIG_FILE
        if own is None or file.exists():
            if not file.is_file():
                raise FileNotFoundError(f"The file {str(file)!r} does not exist.")
            config, fields = _config_of(file.read_bytes(), file)
    if own is not None:
        own_config, own_fields = _config_of(own, weights.path)
        if file.exists() and config != own_config:
            different = [name for name in own_fields if fields.get(name) != own_fields[name]]
            raise ValueError(
                f"{CONFIG_FILE} and {WEIGHTS_FILE} in {str(path)!r} must belong to one adapter, "
                f"but they differ in {different}."
            )
        config = own_config
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} in {str(weights.path)!r} must contain finite numbers only.")
    return StoredAdapter(config, tensors, attributes)


def _config_of(stored: str | bytes, path: Path) -> tuple[AdapterConfig, dict[str, Any]]:
    source = f"the configuration in {str(path)!r}"
    fields = parse_json(stored, source)
    if not isinstance(fields, dict):
        raise ValueError(f"{source} must be a JSON object, got a {type(fields).__name__}.")
    method = fields.get("init_lora_weights", True)
    if isinstance(method, str):
        fields["init_lora_weights"] = _STORED_METHODS.get(method, method)
    try:
        return AdapterConfig.from_peft(fields), fields
    except ValueError as error:
        raise ValueError(f"In {source}: {error}") from error


def _attributes_of(stored: str, path: Path) -> dict[str, Any]:
    source = f"the header of {str(path)!r}"
    return checked_fields(parse_json(stored, source), _ATTRIBUTES, source, may_lack=_ATTRIBUTES)


def _shape(value: Any, name: str) -> tuple[int, ...]:
    return tuple(items(integer(1, _LARGEST_SIZE))(value, name))


_LARGEST_SIZE = 2**31 - 1
_ATTRIBUTES = {
    "input_shape_": optional(_shape),  # None: samples are not single arrays
    "n_features_in_": integer(1, _LARGEST_SIZE),
    "feature_names_in_": lambda value, name: np.array(items(text)(value, name), dtype=object),
    "n_outputs_": integer(1, _LARGEST_SIZE),
    "classes_inferred_": labels,
    "target_ndim_": integer(1, 2),
}


def load_lora_state_dict(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors, named as by :func:`lora_state_dict`, into a network with adapters.

    Raises
    ------
    ValueError
        If names or shapes do not match.
    """
    own = _own_tensors(module)
    tensors = {name: tensors[name] for name in tensors if not _PEFT_COPIES & set(name.split("."))}
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise ValueError(
            f"The adapter does not fit the network: it lacks {missing[:5]} and has unknown tensors "
            f"{unknown[:5]}."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"The adapter does not fit the network: {name} has shape {tuple(tensor.shape)}, "
                f"not {tuple(own[name].shape)}."
            )
    for name, tensor in tensors.items():
        own[name].copy_(tensor)


def required_config(module: nn.Module) -> AdapterConfig:
    """Return the configuration of a network's adapters; raise ValueError if it has none."""
    config = adapter_config_of(module)
    if config is None:
        raise ValueError(f"{type(module).__name__} has no adapters; add them with inject_lora.")
    return config


def _config_fields(module: nn.Module, config: AdapterConfig) -> dict[str, Any]:
    ranks, alphas = dict(config.rank_pattern), dict(config.alpha_pattern)
    layers = lora_layers(module)
    for name, layer in layers.items():
        if layer.initial_a is not None:
            pattern, rank = f"^{re.escape(name)}", 2 * layer.r
            ranks[pattern] = rank
            alphas[pattern] = layer.scaling * (math.sqrt(rank) if config.use_rslora else rank)
    modules_to_save = [*config.modules_to_save, *changed_modules(module)]
    return {
        "peft_type": "LORA",
        "task_type": None,
        "inference_mode": True,
        "r": int(config.r),
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "use_rslora": config.use_rslora,
        "target_modules": _unambiguous(module, config.target_modules),
        "modules_to_save": modules_to_save or None,
        "bias": config.train_bias,
        "rank_pattern": {name: int(r) for name, r in ranks.items()},
        "alpha_pattern": alphas,
        "use_dora": config.use_dora,
        "fan_in_fan_out": any(
            is_linear(layer.base_layer) and not isinstance(layer.base_layer, nn.Linear)
            for layer in layers.values()
        ),
        "init_lora_weights": True,
    }


def _unambiguous(module: nn.Module, names: Sequence[str]) -> str | list[str]:
    """Return names as a list, or as a regular expression if another name ends with one of them."""
    others = {name for name, _ in module.named_modules()} - set(names)
    if not any(other.endswith(f".{name}") for other in others for name in names):
        return list(names)
    return "|".join(re.escape(name) for name in names)


def attributes_to_metadata(estimator: Any) -> dict[str, str]:
    """Return the fitted attributes of an estimator as metadata for `save_adapter`."""
    found = {name: getattr(estimator, name) for name in _ATTRIBUTES if hasattr(estimator, name)}
    values = {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in found.items()
    }
    if "classes_inferred_" in found:
        values["classes_inferred_"] = labels_as_json(np.asarray(found["classes_inferred_"]))
    return {_METADATA_KEY: json.dumps(values)}


def set_attributes(estimator: Any, attributes: Mapping[str, Any]) -> None:
    """Set the fitted attributes of a stored adapter, and remove those that it lacks."""
    for name in _ATTRIBUTES:
        vars(estimator).pop(name, None)
    vars(estimator).update(attributes)
