"""Weights from outside a network: adapters in peft's format, and pretrained backbones.

Adapters are stored in a folder with a safetensors file and a JSON file.
"""

import copy
import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from ..neural import LazyTensors, load_tensors
from ..neural.files import (
    checked_fields,
    fitted_tensors,
    integer,
    items,
    labels,
    labels_as_json,
    locked_folder,
    names_of_tensors,
    parse_json,
    read_file,
    replacing,
    text,
    write_tensors,
)
from ..utils._typing import FloatArray
from ._config import AdapterConfig
from ._injection import (
    adapter_config_of,
    inject,
    lora_layers,
    merge_lora,
    saved_modules,
    unchanged_on_error,
)

WEIGHTS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
_PREFIX = "base_model.model."
_METADATA_KEY = "sklearn_ext"
_CONFIG_KEY = "sklearn_ext.adapter_config"
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
    fields = json.dumps(_config_fields(module, _required_config(module)), indent=2, sort_keys=True)
    header = {"format": "pt", **({} if metadata is None else metadata), _CONFIG_KEY: fields}
    with (
        locked_folder(path),
        replacing(path / CONFIG_FILE) as config_file,
        replacing(path / WEIGHTS_FILE) as weights_file,
    ):
        write_tensors(weights_file, tensors, header)
        config_file.write(fields.encode() + b"\n")
        # The weights are replaced first. If the process is killed before the configuration follows,
        # the folder has none, instead of that of the earlier adapter.
        (path / CONFIG_FILE).unlink(missing_ok=True)


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
    adapter = read_adapter(path)
    with unchanged_on_error(module):
        inject(module, adapter.config, random_state=0)
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
        Fitted attributes of the estimator that saved the adapter. None if there are none.
    """

    config: AdapterConfig
    tensors: dict[str, torch.Tensor]
    attributes: dict[str, Any] | None


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
_SMALLEST_SUM = 1e-8
_ATTRIBUTES = {
    "input_shape_": _shape,
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
    own = lora_state_dict(module)
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
    names = names_of_tensors(module)
    own = module.state_dict(keep_vars=True)
    own = {name: own[name] for name in names}
    heads = tuple(f"{name}." for name in replaceable)
    counters = tuple(name for name in own if name.endswith("num_batches_tracked"))
    try:
        fitting = fitted_tensors(
            state, own, "pretrained", aliases=names, replaceable=(*heads, *counters)
        )
    except ValueError as error:
        raise ValueError(
            f"{error} The network is a {type(module).__name__}. If a part is meant to be new, such "
            "as a head, add its name to modules_to_save."
        ) from error
    mapped = isinstance(state, LazyTensors)
    for name, tensor in fitting.items():
        target = own[name]
        if mapped and tensor.dtype == target.dtype and not name.startswith(heads):
            _assign(module, names[name], tensor)
        else:
            target.copy_(tensor)


def _assign(module: nn.Module, names: Sequence[str], tensor: torch.Tensor) -> None:
    """Use a tensor in place of a parameter or buffer of a network, under all of its names."""
    parameter: nn.Parameter | None = None
    for name in names:
        owner, _, leaf = name.rpartition(".")
        part = module.get_submodule(owner)
        if leaf in part._buffers:
            part._buffers[leaf] = tensor
            continue
        old = part._parameters[leaf]
        if parameter is None:
            parameter = nn.Parameter(tensor, requires_grad=old is None or old.requires_grad)
        part._parameters[leaf] = parameter


@torch.no_grad()
def merge_adapters(
    module: nn.Module,
    paths: Sequence[str | os.PathLike],
    *,
    weights: ArrayLike | None = None,
    r: int | None = None,
) -> dict[str, float]:
    r"""Add the weighted sum of stored adapters to a plain network, as one adapter, in place.

    Averaging the factors of adapters would not average their updates, because the product of
    averages is not the average of products. The merged adapter has the products themselves,
    :math:`\sum_i \lambda_i s_i B_i A_i`: exactly, with factors whose rank is that of the sum, or as
    the best approximation of rank `r`, from a singular value decomposition.

    Parameters
    ----------
    module : torch.nn.Module
        The network that the adapters were trained for, without adapters.
    paths : sequence of str or path-like
        Folders of adapters, as for :func:`load_adapter`. A layer that an adapter lacks counts as
        one without an update.
    weights : array-like of shape (n_adapters,) or None, default=None
        Weight of each adapter. None averages them. Modules that were trained in full and biases are
        averaged with the same weights, divided by their sum.
    r : int or None, default=None
        Largest rank of the merged updates. None keeps them exactly.

    Returns
    -------
    dict of str to float
        For each adapted layer, the Frobenius norm of what was cut off, divided by that of the whole
        update.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If `weights` or `r` is invalid, or if an adapter does not fit the network, which then stays
        as it is.

    See Also
    --------
    save_adapter : Store the result.

    Examples
    --------
    >>> import copy, tempfile, torch
    >>> from sklearn_ext.lora import inject_lora, lora_layers, merge_adapters, save_adapter
    >>> from sklearn_ext.neural import MLP
    >>> plain = MLP(20, 3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for k in range(2):
    ...         adapted = inject_lora(copy.deepcopy(plain), r=2, random_state=k)
    ...         _ = torch.nn.init.normal_(lora_layers(adapted)["1"].lora_B.weight)
    ...         save_adapter(adapted, f"{folder}/{k}")
    ...     errors = merge_adapters(plain, [f"{folder}/{k}" for k in range(2)])
    >>> lora_layers(plain)["1"].r, errors["1"] < 1e-6
    (4, True)
    """
    n = len(paths)
    given = np.full(n, 1.0 / max(n, 1)) if weights is None else np.asarray(weights, dtype=float)
    if n == 0 or given.shape != (n,) or not np.isfinite(given).all():
        raise ValueError(f"weights must be {n} finite numbers, one per adapter, got {weights!r}.")
    if r is not None and (not isinstance(r, Integral) or isinstance(r, bool) or r < 1):
        raise ValueError(f"r must be a positive integer or None, got {r!r}.")
    factors: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    others: dict[str, torch.Tensor] = {}
    configs = []
    plain = copy.deepcopy(module)
    for path, weight in zip(paths, given.tolist(), strict=True):
        adapted = load_adapter(copy.deepcopy(plain), path)
        configs.append(_required_config(adapted))
        layers = lora_layers(adapted)
        for name, layer in layers.items():
            B = layer.lora_B.weight.flatten(1).double() * (weight * layer.scaling)
            factors.setdefault(name, []).append((B, layer.lora_A.weight.flatten(1).double()))
        share = _share(weight, given)
        for name, tensor in lora_state_dict(adapted).items():
            if not name.endswith((".lora_A.weight", ".lora_B.weight")):
                part = tensor.double() * share
                others[name] = others[name] + part if name in others else part
    first = configs[0]
    full = {(set(c.modules_to_save) == set(first.modules_to_save), c.train_bias) for c in configs}
    if full != {(True, first.train_bias)}:
        raise ValueError("The adapters must have the same modules_to_save and bias.")
    merged = {name: _factors_of_sum(parts, r) for name, parts in factors.items()}
    ranks = {name: len(A) for name, (_, A, _) in merged.items()}
    config = AdapterConfig(
        r=max(ranks.values()),
        lora_alpha=max(ranks.values()),
        target_modules=tuple(merged),
        modules_to_save=first.modules_to_save,
        train_bias=first.train_bias,
        rank_pattern={f"^{re.escape(name)}": rank for name, rank in ranks.items()},
        # The scaling is lora_alpha / r, which must be 1 here.
        alpha_pattern={f"^{re.escape(name)}": rank for name, rank in ranks.items()},
    )
    with unchanged_on_error(module):
        inject(module, config, random_state=0)
        for name, layer in lora_layers(module).items():
            B, A, _ = merged[name]
            layer.lora_A.weight.copy_(A.view_as(layer.lora_A.weight))
            layer.lora_B.weight.copy_(B.view_as(layer.lora_B.weight))
        own = lora_state_dict(module)
        for name, tensor in others.items():
            own[name].copy_(tensor)
    return {name: error for name, (_, _, error) in merged.items()}


def _share(weight: float, weights: FloatArray) -> float:
    total = float(weights.sum())
    if abs(total) < _SMALLEST_SUM:
        raise ValueError(f"weights must not sum to 0, got {weights.tolist()}.")
    return weight / total


def _factors_of_sum(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]], r: int | None
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Return factors B and A of the sum of products, of rank at most r, and the relative error."""
    B, A = torch.cat([b for b, _ in parts], dim=1), torch.cat([a for _, a in parts])
    # Orthogonal bases of both sides leave a small matrix with the singular values of the product.
    left, upper = torch.linalg.qr(B)
    right, lower = torch.linalg.qr(A.T)
    U, values, Vh = torch.linalg.svd(upper @ lower.T, full_matrices=False)
    rank = len(values) if r is None else min(r, len(values))
    total = float(values.norm())
    error = float(values[rank:].norm()) / total if total > 0 else 0.0
    root = values[:rank].sqrt()
    return left @ (U[:, :rank] * root), (root[:, None] * Vh[:rank]) @ right.T, error
