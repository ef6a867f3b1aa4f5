"""Insert adapters into a network, and merge them into its weights."""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..neural import draw_seed, torch_generator
from ..neural.files import matches_name
from ..utils._typing import RandomState
from ..utils._warnings import warn_caller
from ._config import AdapterConfig
from .layers import LAYER_TYPES, AdaptableLayer, LoRALayer, dense, with_low_rank_update

_TARGET_KEYWORDS = ("auto", "all-linear", "all")


def inject_lora(
    module: nn.Module,
    *,
    r: int = 8,
    lora_alpha: float = 16,
    lora_dropout: float = 0.0,
    use_rslora: bool = False,
    target_modules: str | Sequence[str] = "auto",
    exclude_modules: str | Sequence[str] | None = None,
    modules_to_save: Sequence[str] | None = None,
    train_bias: str = "none",
    train_norm: bool = False,
    rank_pattern: Mapping[str, int] | None = None,
    alpha_pattern: Mapping[str, float] | None = None,
    random_state: RandomState = None,
) -> nn.Module:
    r"""Freeze a network and add low-rank updates to its layers, in place.

    A layer with the weight W of shape (m, n) gets two factors: A of shape (r, n), which is uniform
    on :math:`\pm 1/\sqrt n`, and B of shape (m, r), which is zero. The layer then computes with
    :math:`W + s B A`. The outputs of the network do not change until the factors are trained.

    Parameters
    ----------
    module : torch.nn.Module
        The network, which is modified.
    r : int, default=8
        Rank of the updates, limited by the smaller dimension of a weight.
    lora_alpha : float, default=16
        The scaling s of the updates is ``lora_alpha / r``.
    lora_dropout : float in [0, 1), default=0.0
        Dropout rate on the input of the updates, in training mode.
    use_rslora : bool, default=False
        Whether s is ``lora_alpha / sqrt(r)`` instead.
    target_modules : {"auto", "all-linear", "all"}, list of str or str, default="auto"
        The layers to adapt. "auto" selects every ``Linear``, ``Conv1d`` and ``Conv2d`` layer except
        the last layer with parameters, "all-linear" every ``Linear`` layer, and "all" every layer
        of the three types. A list contains names or ends of names. Any other string is a regular
        expression that must match the whole name.
    exclude_modules : list of str or str or None, default=None
        Layers that are not adapted: a list of names or ends of names, or a regular expression.
    modules_to_save : list of str or None, default=None
        Names, or ends of names, of modules that are trained in full, such as a new head.
    train_bias : {"none", "all", "lora_only"}, default="none"
        Which biases are trained: none, all, or those of the adapted layers.
    train_norm : bool, default=False
        Whether batch and instance normalization layers with running statistics are trained in
        full, which adds them to `modules_to_save`.
    rank_pattern : dict of str to int or None, default=None
        Ranks for layers whose name, or the end of it, matches a regular expression.
    alpha_pattern : dict of str to float or None, default=None
        Values of `lora_alpha` for layers that match in the same way.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial values of A. Pass an int for reproducible results.

    Returns
    -------
    torch.nn.Module
        `module`, whose new attribute `lora_config` is an :class:`AdapterConfig` that describes the
        adapters.

    Raises
    ------
    ValueError
        If no layer matches, if the network already has adapters, or if a number is out of range.
    TypeError
        If the weight of a layer is not floating-point and cannot be dequantized.

    See Also
    --------
    merge_lora : Turn adapted layers back into plain ones.

    References
    ----------
    .. [1] E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
       arXiv:2106.09685.

    Examples
    --------
    >>> from sklearn_ext.lora import inject_lora, lora_layers
    >>> from sklearn_ext.neural import MLP
    >>> module = inject_lora(MLP(20, 3, hidden_sizes=(64, 64)), r=4, random_state=0)
    >>> list(lora_layers(module))
    ['1', '3']
    >>> sum(p.numel() for p in module.parameters() if p.requires_grad)
    848
    """
    config = AdapterConfig(
        r=r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        use_rslora=use_rslora,
        target_modules=target_modules,
        exclude_modules=exclude_modules,
        modules_to_save=() if modules_to_save is None else tuple(modules_to_save),
        train_bias=train_bias,
        rank_pattern={} if rank_pattern is None else rank_pattern,
        alpha_pattern={} if alpha_pattern is None else alpha_pattern,
    )
    return inject(module, config, train_norm=train_norm, random_state=random_state)


def inject(
    module: nn.Module,
    config: AdapterConfig,
    *,
    train_norm: bool = False,
    random_state: RandomState = None,
) -> nn.Module:
    """Add adapters as :func:`inject_lora` does, given a config."""
    if lora_layers(module):
        raise ValueError("module already has adapters; merge them with merge_lora first.")
    if train_norm:
        norms = tuple(name for name, _ in norm_layers(module))
        config = dataclasses.replace(config, modules_to_save=(*config.modules_to_save, *norms))
    saved = saved_modules(module, config)
    layers = target_layers(module, config, saved)
    tied = _tied_weights(module, layers)
    for message in (*_fused_attention(module, config), *tied.values()):
        warn_caller(message)
    module.requires_grad_(False)
    generator = torch_generator(draw_seed(random_state))
    ranks: dict[str, int] = {}
    clipped: list[str] = []
    for name, layer in layers.items():
        params = config.layer_params(name)
        new = with_low_rank_update(
            layer, **params, takes_noise=name not in tied, generator=generator
        )
        if new.r < params["r"]:
            clipped.append(name)
        if new.r != config.r:
            ranks[name] = new.r
        _replace(module, layer, new)
    for part in saved.values():
        part.requires_grad_(True)
    _unfreeze_biases(module, config.train_bias)
    vars(module)["lora_config"] = dataclasses.replace(
        config,
        target_modules=tuple(layers),
        exclude_modules=None,
        modules_to_save=tuple(saved),
        rank_pattern={f"^{re.escape(name)}": rank for name, rank in ranks.items()},
        alpha_pattern=_alphas(config, layers),
    )
    if clipped:
        warn_caller(f"r was reduced to the smaller dimension of the weight in {clipped}.")
    return module


@contextlib.contextmanager
def unchanged_on_error(module: nn.Module) -> Iterator[None]:
    """Remove the adapters that a block adds to a plain network, if the block fails."""
    before = lora_layers(module)
    trainable = {parameter: parameter.requires_grad for parameter in module.parameters()}
    try:
        yield
    except BaseException:
        for name, layer in lora_layers(module).items():
            if name not in before:
                _replace(module, layer, layer.base_layer)
        if not before:
            vars(module).pop("lora_config", None)
        for parameter, required in trainable.items():
            parameter.requires_grad_(required)
        raise


def merge_lora(module: nn.Module) -> nn.Module:
    """Replace adapted layers with plain ones that have the merged weight W + s B A, in place.

    Parameters
    ----------
    module : torch.nn.Module
        The network, which is modified. If it has no adapters, its parameters only become trainable.
        The memory of the frozen weights is not overwritten.

    Returns
    -------
    torch.nn.Module
        `module`, with all parameters trainable.

    Examples
    --------
    >>> from sklearn_ext.lora import inject_lora, merge_lora
    >>> from sklearn_ext.neural import MLP
    >>> merge_lora(inject_lora(MLP(20, 3), random_state=0))[1]
    Linear(in_features=20, out_features=128, bias=True)
    """
    for layer in lora_layers(module).values():
        with torch.no_grad():
            layer.noise = None
            merged = layer.weight
        plain = layer.base_layer
        plain.weight = nn.Parameter(merged)
        plain.train(layer.training)
        _replace(module, layer, plain)
    vars(module).pop("lora_config", None)
    return module.requires_grad_(True)


def lora_layers(module: nn.Module) -> dict[str, LoRALayer]:
    """Return the adapted layers of a network by name.

    Parameters
    ----------
    module : torch.nn.Module

    Returns
    -------
    dict of str to layer
        Each layer has the attributes `lora_A`, `lora_B`, `r`, `scaling`, `base_layer` and
        `weight`, which is the merged weight.

    Examples
    --------
    >>> from sklearn_ext.lora import inject_lora, lora_layers
    >>> from sklearn_ext.neural import MLP
    >>> layer = lora_layers(inject_lora(MLP(20, 3), random_state=0))["1"]
    >>> layer.lora_B.weight.shape, layer.lora_A.weight.shape, layer.scaling
    (torch.Size([128, 8]), torch.Size([8, 20]), 2.0)
    """
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoRALayer)}


def adapter_config_of(module: nn.Module) -> AdapterConfig | None:
    """Return the attribute `lora_config` that `inject` adds to a network, or None."""
    return vars(module).get("lora_config")


def norm_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the names and layers of normalizations with running statistics."""
    for name, layer in module.named_modules():
        if isinstance(layer, _NormBase) and layer.running_mean is not None:
            yield name, layer


def frozen_norms(module: nn.Module) -> list[nn.Module]:
    """Return the normalization layers whose running statistics must not change."""
    config = adapter_config_of(module)
    trained = () if config is None else config.modules_to_save
    return [
        layer
        for name, layer in norm_layers(module)
        if not any(_is_within(name, saved) for saved in trained)
    ]


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
    candidates = {
        name: layer
        for name, layer in module.named_modules()
        if name
        and isinstance(layer, LAYER_TYPES)
        and not any(_is_within(name, part) for part in saved)
    }
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


def _is_target(
    module: nn.Module, name: str, layer: nn.Module, targets: str | Sequence[str]
) -> bool:
    if not isinstance(targets, str) or targets not in _TARGET_KEYWORDS:
        return _matches(name, targets)
    if targets == "all-linear":
        return isinstance(layer, nn.Linear)
    return targets == "all" or name != _last_parametric(module)


def _last_parametric(module: nn.Module) -> str:
    return [name for name, part in module.named_modules() if list(part.parameters(False))][-1]


def _matches(name: str, patterns: str | Sequence[str]) -> bool:
    if isinstance(patterns, str):
        return matches_name(patterns, name)
    return any(_ends_with(name, suffix) for suffix in patterns)


def _ends_with(name: str, suffix: str) -> bool:
    return name == suffix or name.endswith(f".{suffix}")


def _is_within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _replace(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    # The same layer may be registered in several places.
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child is old and parent is not new:
                parent._modules[name] = new


def _tied_weights(module: nn.Module, layers: Mapping[str, AdaptableLayer]) -> dict[str, str]:
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


def _fused_attention(module: nn.Module, config: AdapterConfig) -> Iterator[str]:
    """Yield a warning if attention layers have projections that cannot be adapted."""
    if config.target_modules not in _TARGET_KEYWORDS:
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


def _unfreeze_biases(module: nn.Module, train_bias: str) -> None:
    parts: list[nn.Module] = []
    if train_bias == "all":
        parts = list(module.modules())
    elif train_bias == "lora_only":
        parts = [layer.base_layer for layer in lora_layers(module).values()]
    for part in parts:
        bias = part._parameters.get("bias")
        if bias is not None:
            bias.requires_grad_(True)


def _alphas(config: AdapterConfig, layers: Iterable[str]) -> dict[str, float]:
    alphas = {name: config.layer_params(name)["lora_alpha"] for name in layers}
    return {f"^{re.escape(name)}": a for name, a in alphas.items() if a != config.lora_alpha}
