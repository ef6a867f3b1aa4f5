"""Weights from outside a network: adapters in peft's format, and pretrained backbones.

Adapters are stored in a folder with a safetensors file and a JSON file.
"""

import copy
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from ..neural import LazyTensors, save_tensors
from ._config import AdapterConfig
from ._injection import adapter_config_of, inject, lora_layers, merge_lora, saved_modules

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PREFIX = "base_model.model."
_METADATA_KEY = "sklearn_ext"
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
        biases, and the state of `modules_to_save`. The tensors share memory with the module.

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
    config = _required_config(module)
    factors = tuple(
        f"{name}.{factor}." for name in lora_layers(module) for factor in ("lora_A", "lora_B")
    )
    saved = tuple(f"{name}." for name in saved_modules(module, config))
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    return {
        _PREFIX + name: tensor
        for name, tensor in module.state_dict().items()
        if name.startswith(factors + saved) or (name in trained and name.endswith("bias"))
    }


def save_adapter(
    module: nn.Module, path: str | os.PathLike, *, metadata: dict[str, str] | None = None
) -> None:
    """Save the adapters of a network to a folder that peft can read.

    ``peft.PeftModel.from_pretrained(plain_module, path)`` then computes the same outputs as
    `module`. Convolutions with groups or dilation are an exception, because peft does not support
    them.

    Parameters
    ----------
    module : torch.nn.Module
        A network with adapters from :func:`inject_lora`.
    path : str or path-like
        Folder, which is created if it does not exist. Any adapter in it is replaced.
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
    fields = json.dumps(_config_fields(module, _required_config(module)), indent=2, sort_keys=True)
    (path / CONFIG_FILE).write_text(fields + "\n", encoding="utf-8")
    header = {"format": "pt"} if metadata is None else {"format": "pt", **metadata}
    save_tensors(path / WEIGHTS_FILE, tensors, metadata=header)


def load_adapter(module: nn.Module, path: str | os.PathLike) -> nn.Module:
    """Add the adapters in a folder to a plain network, in place.

    The folder may have been written by :func:`save_adapter` or by peft's ``save_pretrained``.

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
        If the adapter is not a LoRA adapter, requests an unsupported feature, or does not fit the
        network.

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
    config = read_config(path)
    tensors = LazyTensors(Path(path) / WEIGHTS_FILE)
    inject(module, config, random_state=0)
    load_lora_state_dict(module, {name: tensors[name] for name in tensors})
    return module


def read_config(path: str | os.PathLike) -> AdapterConfig:
    """Read ``adapter_config.json`` from a folder."""
    file = Path(path) / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {str(file)!r}.")
    return AdapterConfig.from_peft(json.loads(file.read_text(encoding="utf-8")))


def load_lora_state_dict(module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy tensors, named as by :func:`lora_state_dict`, into a network with adapters.

    Raises
    ------
    ValueError
        If names or shapes do not match.
    """
    own = lora_state_dict(module)
    tensors = {name: tensors[name] for name in tensors if not _PEFT_COPIES & set(name.split("."))}
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise ValueError(
            f"The adapter does not fit the network: it lacks {missing} and has unknown tensors "
            f"{unknown}."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"The adapter does not fit the network: {name} has shape {tuple(tensor.shape)}, "
                f"not {tuple(own[name].shape)}."
            )
    for name, tensor in tensors.items():
        own[name].copy_(tensor)


def _required_config(module: nn.Module) -> AdapterConfig:
    config = adapter_config_of(module)
    if config is None:
        raise ValueError(f"{type(module).__name__} has no adapters; add them with inject_lora.")
    return config


def _config_fields(module: nn.Module, config: AdapterConfig) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": None,
        "inference_mode": True,
        "r": int(config.r),
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "use_rslora": config.use_rslora,
        "target_modules": _unambiguous(module, config.target_modules),
        "modules_to_save": list(config.modules_to_save) if config.modules_to_save else None,
        "bias": config.train_bias,
        "rank_pattern": {name: int(r) for name, r in config.rank_pattern.items()},
        "alpha_pattern": dict(config.alpha_pattern),
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def _unambiguous(module: nn.Module, names: Sequence[str]) -> str | list[str]:
    """Return names as a list, or as a regular expression if another name ends with one of them."""
    others = {name for name, _ in module.named_modules()} - set(names)
    if not any(other.endswith(f".{name}") for other in others for name in names):
        return list(names)
    return "|".join(re.escape(name) for name in names)


def attributes_to_metadata(estimator: Any, names: Sequence[str]) -> dict[str, str]:
    """Return fitted attributes of an estimator as metadata for `save_adapter`."""
    found = {name: getattr(estimator, name) for name in names if hasattr(estimator, name)}
    values = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}
    return {_METADATA_KEY: json.dumps(values)}


def attributes_from_metadata(
    path: str | os.PathLike, names: Sequence[str]
) -> dict[str, Any] | None:
    """Return the attributes that were saved with an adapter, or None if there are none.

    Raises
    ------
    ValueError
        If the file contains an attribute that is not in `names`.
    """
    with safe_open(Path(path) / WEIGHTS_FILE, framework="pt") as file:
        metadata = file.metadata()
    if metadata is None or _METADATA_KEY not in metadata:
        return None
    attributes = json.loads(metadata[_METADATA_KEY])
    unknown = sorted(attributes.keys() - set(names))
    if unknown:
        raise ValueError(
            f"The header of the adapter in {str(path)!r} must contain only the attributes "
            f"{list(names)}, got {unknown}."
        )
    return {name: _restored(name, value) for name, value in attributes.items()}


def _restored(name: str, value: Any) -> Any:
    if name == "feature_names_in_":
        return np.asarray(value, dtype=object)
    if name == "input_shape_":
        return tuple(value)
    return np.asarray(value) if isinstance(value, list) else value


def pretrained_state(pretrained: Any) -> Mapping[str, torch.Tensor]:
    """Return the tensors that a `pretrained` parameter specifies, by name.

    Parameters
    ----------
    pretrained : str, path-like, mapping, torch.nn.Module or fitted skorch net
        The adapters of a module or a net are merged into a copy.

    Returns
    -------
    mapping of str to tensor

    Raises
    ------
    TypeError
        If `pretrained` has another type.
    ValueError
        If `pretrained` is an unfitted net.
    """
    if isinstance(pretrained, str | os.PathLike):
        return LazyTensors(pretrained)
    if isinstance(pretrained, Mapping):
        return {name: torch.as_tensor(value) for name, value in pretrained.items()}
    if hasattr(pretrained, "initialized_"):
        if not pretrained.initialized_:
            raise ValueError(f"pretrained must be a fitted net, but {pretrained!r} is not fitted.")
        pretrained = pretrained.module_
    if isinstance(pretrained, nn.Module):
        return merge_lora(copy.deepcopy(pretrained)).state_dict()
    raise TypeError(
        "pretrained must be None, a path, a mapping of names to tensors, a torch.nn.Module or a "
        f"fitted skorch net, got {pretrained!r}."
    )


@torch.no_grad()
def load_pretrained(
    module: nn.Module, state: Mapping[str, torch.Tensor], replaceable: Iterable[str]
) -> None:
    """Load tensors into a network.

    Tensors that are mapped from a file are used in place, so that the backbone takes no additional
    memory. Other tensors are copied.

    Parameters
    ----------
    module : torch.nn.Module
    state : mapping of str to tensor
    replaceable : iterable of str
        Names of modules whose tensors may be missing or have other shapes.

    Raises
    ------
    ValueError
        If any other tensor is missing, unknown or has another shape.
    """
    own = module.state_dict()
    heads = tuple(f"{name}." for name in replaceable)
    required = {name for name in own if not name.startswith(heads)}
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing = sorted(required - counters - set(state))
    unknown = sorted(name for name in set(state) - set(own) if not name.startswith(heads))
    fitting = {name: state[name] for name in own if name in state}
    wrong = [
        f"{name} {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in fitting.items()
        if tensor.shape != own[name].shape
    ]
    if missing or unknown or [text for text in wrong if not text.startswith(heads)]:
        raise ValueError(
            f"pretrained does not fit {type(module).__name__}: missing {missing}, unknown "
            f"{unknown}, wrong shapes {wrong}. If a part is meant to be new, such as a head, "
            "add its name to modules_to_save."
        )
    fitting = {n: tensor for n, tensor in fitting.items() if tensor.shape == own[n].shape}
    if isinstance(state, LazyTensors):
        _assign(module, fitting, own, heads)
    else:
        module.load_state_dict(fitting, strict=False)


def _assign(
    module: nn.Module,
    tensors: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    heads: tuple[str, ...],
) -> None:
    in_place = {
        name: tensor
        for name, tensor in tensors.items()
        if tensor.dtype == own[name].dtype and not name.startswith(heads)
    }
    module.load_state_dict(in_place, strict=False, assign=True)
    copied = {name: tensor for name, tensor in tensors.items() if name not in in_place}
    module.load_state_dict(copied, strict=False)
