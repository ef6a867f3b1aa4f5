"""Adapters on disk, in peft's format: a safetensors file and a JSON file in a folder."""

import json
import os
import re
from pathlib import Path

import torch
from torch import nn

from ..neural import LazyTensors, save_tensors
from ._config import from_lora_config
from ._injection import inject, lora_layers, saved_modules

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PREFIX = "base_model.model."
# With trained biases peft writes those of a saved module once more, under these names.
_PEFT_COPIES = {"modules_to_save", "original_module"}


def lora_state_dict(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return what was trained, under the names that peft gives it.

    Parameters
    ----------
    module : torch.nn.Module
        With adapters of :func:`inject_lora`.

    Returns
    -------
    dict of str to tensor
        Factors ``base_model.model.<layer>.lora_A.weight`` and ``.lora_B.weight``, trained biases,
        and the state of `modules_to_save`; the tensors are the module's own.

    Raises
    ------
    ValueError
        If there are no adapters.

    Examples
    --------
    >>> from sklearn_ext.lora import inject_lora, lora_state_dict
    >>> from sklearn_ext.neural import MLP
    >>> module = inject_lora(MLP(20, 3), target_modules=["1"], random_state=0)
    >>> list(lora_state_dict(module))
    ['base_model.model.1.lora_A.weight', 'base_model.model.1.lora_B.weight']
    """
    config = getattr(module, "lora_config", None)
    if config is None:
        raise ValueError(f"{type(module).__name__} has no adapters; inject_lora puts them in.")
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
    """Write the adapters of a network to a folder that peft can read.

    ``peft.PeftModel.from_pretrained(plain_module, path)`` then computes what `module` computes,
    for linear layers and for convolutions without groups and dilation, which peft lacks.

    Parameters
    ----------
    module : torch.nn.Module
        With adapters of :func:`inject_lora`.
    path : str or path-like
        Folder, made if it is not there. Files of an adapter in it are replaced.
    metadata : dict of str to str or None, default=None
        Kept in the safetensors file.

    Raises
    ------
    ValueError
        If there are no adapters.

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
    fields = json.dumps(_config_fields(module), indent=2, sort_keys=True)
    (path / CONFIG_FILE).write_text(fields + "\n", encoding="utf-8")
    save_tensors(path / WEIGHTS_FILE, tensors, metadata={"format": "pt", **(metadata or {})})


def load_adapter(module: nn.Module, path: str | os.PathLike) -> nn.Module:
    """Put the adapters of a folder into a plain network, in place.

    Reads what :func:`save_adapter` or peft's ``save_pretrained`` wrote.

    Parameters
    ----------
    module : torch.nn.Module
        The network that the adapters were trained on, without adapters.
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
        If the adapter is of another kind than LoRA, asks for what is not supported, or does not
        fit the network.

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


def read_config(path):
    """Read ``adapter_config.json``."""
    file = Path(path) / CONFIG_FILE
    if not file.is_file():
        raise FileNotFoundError(f"There is no file {str(file)!r}.")
    return from_lora_config(json.loads(file.read_text(encoding="utf-8")))


def load_lora_state_dict(module, tensors):
    """Copy tensors of :func:`lora_state_dict` into a network with adapters.

    Raises
    ------
    ValueError
        If a name or a shape does not fit.
    """
    own = lora_state_dict(module)
    tensors = {name: tensors[name] for name in tensors if not _PEFT_COPIES & set(name.split("."))}
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise ValueError(
            f"The adapter does not fit the network: it lacks {missing} and has {unknown} beyond."
        )
    for name, tensor in tensors.items():
        if tensor.shape != own[name].shape:
            raise ValueError(
                f"The adapter does not fit the network: {name} has shape {tuple(tensor.shape)}, "
                f"not {tuple(own[name].shape)}."
            )
    for name, tensor in tensors.items():
        own[name].copy_(tensor)


def _config_fields(module):
    config = module.lora_config
    return {
        "peft_type": "LORA",
        "task_type": None,
        "inference_mode": True,
        "r": int(config.r),
        "lora_alpha": config.lora_alpha,
        "lora_dropout": config.lora_dropout,
        "use_rslora": config.use_rslora,
        "target_modules": _unambiguous(module, config.target_modules),
        "modules_to_save": list(config.modules_to_save) or None,
        "bias": config.train_bias,
        "rank_pattern": {name: int(r) for name, r in config.rank_pattern.items()},
        "alpha_pattern": dict(config.alpha_pattern),
        "fan_in_fan_out": False,
        "init_lora_weights": True,
    }


def _unambiguous(module, names):
    """Return the names as a list; as a regular expression where a name is the end of another."""
    others = {name for name, _ in module.named_modules()} - set(names)
    if not any(other.endswith(f".{name}") for other in others for name in names):
        return list(names)
    return "|".join(re.escape(name) for name in names)
