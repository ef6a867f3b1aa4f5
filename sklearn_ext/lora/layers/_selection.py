"""The choice of the layers that get adapters, and of the modules that are trained in full."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ...neural.files import matches_name
from ...utils._warnings import warn_caller
from .._config import AdapterConfig, pattern_matches
from ._frozen import AdaptableLayer, dense, is_linear, layer_type

_KEYWORDS = ("auto", "all-linear", "all")


def target_layers(
    module: nn.Module, config: AdapterConfig, saved: Mapping[str, nn.Module]
) -> dict[str, AdaptableLayer]:
    """Return the layers to adapt, by name.

    Raises
    ------
    ValueError
        If no layer matches.
    TypeError
        If a matching layer cannot be adapted.
    """
    candidates = _candidates(module, saved)
    layers = {
        name: layer
        for name, layer in candidates.items()
        if _is_target(module, name, layer, config.target_modules)
        and not (config.exclude_modules is not None and _matches(name, config.exclude_modules))
    }
    if not layers:
        raise ValueError(
            f"target_modules={config.target_modules!r} (exclude_modules="
            f"{config.exclude_modules!r}) matches no layer that can be adapted; the candidates are "
            f"{list(candidates)}."
        )
    for name, layer in layers.items():
        if not isinstance(layer.weight, nn.Parameter):
            raise TypeError(
                f"The weight of {name!r} is computed by a parametrization and is not a parameter; "
                "remove the parametrization, or exclude the layer with exclude_modules."
            )
        if not dense(layer.weight).is_floating_point():
            raise TypeError(
                f"The weight of {name!r} is of type {layer.weight.dtype}; it must be "
                "floating-point, or quantized in a form that torch can dequantize."
            )
    return layers


def saved_modules(module: nn.Module, config: AdapterConfig) -> dict[str, nn.Module]:
    """Return the modules that are trained in full, by full name.

    Raises
    ------
    ValueError
        If a name in `modules_to_save` does not match any module.
    """
    found: dict[str, nn.Module] = {}
    for suffix in config.modules_to_save:
        names = [name for name, _ in module.named_modules() if _ends_with(name, suffix)]
        if not names:
            children = [name for name, _ in module.named_modules() if name]
            raise ValueError(
                f"modules_to_save contains {suffix!r}, which does not match any of the modules "
                f"{children}."
            )
        found.update((name, module.get_submodule(name)) for name in names)
    return found


def norm_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and layers of normalizations with running statistics."""
    for name, layer in module.named_modules():
        if isinstance(layer, _NormBase) and layer.running_mean is not None:
            yield name, layer


def check_names(
    module: nn.Module, config: AdapterConfig, layers: Mapping[str, AdaptableLayer]
) -> None:
    """Report names that match nothing, which may be misspelled."""
    targets = config.target_modules
    unmatched = [] if isinstance(targets, str) else [t for t in targets if not _any(layers, t)]
    if unmatched:
        candidates = list(_candidates(module, config.modules_to_save))
        raise ValueError(
            f"target_modules contains {unmatched}, which match no layer that can be adapted "
            f"(exclude_modules={config.exclude_modules!r}); the candidates are {candidates}."
        )
    excluded = () if config.exclude_modules is None else config.exclude_modules
    names = [name for name, _ in module.named_modules()]
    unused = [] if isinstance(excluded, str) else [e for e in excluded if not _any(names, e)]
    if unused:
        warn_caller(f"exclude_modules contains {unused}, which match no module.")
    for field in ("rank_pattern", "alpha_pattern"):
        keys = getattr(config, field)
        missing = [key for key in keys if not any(pattern_matches(key, name) for name in layers)]
        if missing:
            warn_caller(f"{field} contains {missing}, which match no adapted layer.")
    embeddings = [name for name, layer in layers.items() if layer_type(layer) is nn.Embedding]
    if config.use_dora and embeddings:
        raise ValueError(
            f"use_dora must be False for embeddings, got True for {embeddings}; exclude them with "
            "exclude_modules."
        )


def tied_weights(module: nn.Module, layers: Mapping[str, AdaptableLayer]) -> dict[str, str]:
    """Return a warning for each layer whose weight also belongs to another module."""
    owners: dict[torch.Tensor, list[str]] = {}
    for name, part in module.named_modules():
        for weight in part.parameters(recurse=False):
            owners.setdefault(weight, []).append(name)
    return {
        name: f"The weight of {name!r} is tied: the modules {owners[layer.weight]} share it. It is "
        f"adapted in {name!r} only, without noise."
        for name, layer in layers.items()
        if len(owners[layer.weight]) > 1
    }


def fused_attention(module: nn.Module, config: AdapterConfig) -> Iterator[str]:
    """Yield a warning if attention layers have projections that cannot be adapted."""
    if config.target_modules not in _KEYWORDS:
        return
    fused = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.MultiheadAttention) and part.in_proj_weight is not None
    ]
    if fused:
        yield (
            "torch.nn.MultiheadAttention stores the projections of queries, keys and values in "
            f"one bare parameter, which is not adapted: {fused}."
        )


def _candidates(module: nn.Module, saved: Iterable[str]) -> dict[str, AdaptableLayer]:
    return {
        name: layer
        for name, layer in module.named_modules()
        if name and layer_type(layer) and not any(is_within(name, part) for part in saved)
    }


def _is_target(
    module: nn.Module, name: str, layer: nn.Module, targets: str | Sequence[str]
) -> bool:
    if not isinstance(targets, str) or targets not in _KEYWORDS:
        return _matches(name, targets)
    if layer_type(layer) is nn.Embedding:
        return False
    if targets == "all-linear":
        return is_linear(layer)
    return targets == "all" or name != _last_parametric(module)


def _last_parametric(module: nn.Module) -> str:
    return [name for name, part in module.named_modules() if list(part.parameters(False))][-1]


def _matches(name: str, patterns: str | Sequence[str]) -> bool:
    if isinstance(patterns, str):
        return matches_name(patterns, name)
    return any(_ends_with(name, suffix) for suffix in patterns)


def _any(names: Iterable[str], suffix: str) -> bool:
    return any(_ends_with(name, suffix) for name in names)


def _ends_with(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")


def is_within(name: str, part: str) -> bool:
    """Return whether a name is that of a module, or of something inside it."""
    return name == part or name.startswith(f"{part}.")
