"""Putting adapters into a network, and taking them out again."""

import dataclasses
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from ..neural import draw_seed, torch_generator
from ._config import AdapterConfig
from ._functional import dense, layer_type
from ._layers import LoRALayer, adapted

_KINDS = ("auto", "all-linear", "all")


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
    random_state: int | np.random.RandomState | None = None,
) -> nn.Module:
    r"""Freeze a network and put low-rank updates beside its layers, in place.

    A layer with the weight W, (m, n), gets the factors A, (r, n), uniform on
    :math:`\pm 1/\sqrt n`, and B, (m, r), zero; it then computes with :math:`W + s B A`. Right
    after the call the network computes what it did before.

    Parameters
    ----------
    module : torch.nn.Module
        Is changed.
    r : int, default=8
        Rank, at most the smaller side of a weight.
    lora_alpha : float, default=16
        The scaling s is ``lora_alpha / r``.
    lora_dropout : float in [0, 1), default=0.0
        Dropout on the input of the updates, in training mode.
    use_rslora : bool, default=False
        Whether s is ``lora_alpha / sqrt(r)``.
    target_modules : {"auto", "all-linear", "all"}, list of str or str, default="auto"
        Which layers are adapted. "auto": every ``Linear``, ``Conv1d`` and ``Conv2d`` except the
        last layer with parameters; "all-linear": every ``Linear``; "all": every one of the three.
        A list holds names or ends of names; another string is a regular expression that matches
        whole names.
    exclude_modules : list of str or str or None, default=None
        Names, ends of names, or a regular expression, of layers that are left out.
    modules_to_save : list of str or None, default=None
        Names, or ends of names, of modules that are trained as they are, such as a new head.
    train_bias : {"none", "all", "lora_only"}, default="none"
        Which biases are trained: of no layer, of all, or of those with an update.
    train_norm : bool, default=False
        Whether batch and instance normalisations with running statistics are trained as they are,
        which adds them to `modules_to_save`.
    rank_pattern : dict of str to int or None, default=None
        Other ranks for layers whose name matches a regular expression, or ends with a match.
    alpha_pattern : dict of str to float or None, default=None
        Other values of `lora_alpha`.
    random_state : int, RandomState instance or None, default=None
        Draws A.

    Returns
    -------
    torch.nn.Module
        `module`. Its attribute `lora_config` records what was done.

    Raises
    ------
    ValueError
        If no layer matches, the network has adapters already, or a number is out of its range.
    TypeError
        If the weight of a layer is neither of a floating type nor dequantisable.

    See Also
    --------
    merge_lora : Back to plain layers.

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
        modules_to_save=tuple(modules_to_save or ()),
        train_bias=train_bias,
        rank_pattern=rank_pattern or {},
        alpha_pattern=alpha_pattern or {},
    )
    for message in inject(module, config, train_norm=train_norm, random_state=random_state):
        warnings.warn(message, stacklevel=2)
    return module


def inject(module, config, *, train_norm=False, random_state=None):
    """Do what :func:`inject_lora` does; return what the user should be warned of."""
    if lora_layers(module):
        raise ValueError("The module has adapters already; merge them with merge_lora first.")
    if train_norm:
        norms = tuple(name for name, _ in norm_layers(module))
        config = dataclasses.replace(config, modules_to_save=(*config.modules_to_save, *norms))
    saved = saved_modules(module, config)
    layers = target_layers(module, config, saved)
    tied = _tied_weights(module, layers)
    messages = [*_unreachable(module, config), *tied.values()]
    module.requires_grad_(False)
    generator = torch_generator(draw_seed(random_state))
    ranks, clipped = {}, []
    for name, layer in layers.items():
        params = config.layer_params(name)
        new = adapted(layer, **params, generator=generator)
        new.takes_noise = name not in tied
        if new.r < params["r"]:
            clipped.append(name)
        if new.r != config.r:
            ranks[name] = new.r
        _replace(module, layer, new)
    for part in saved.values():
        part.requires_grad_(True)
    _thaw_biases(module, config.train_bias)
    if clipped:
        messages.append(f"r is larger than a side of the weight, and was lowered, in {clipped}.")
    module.lora_config = dataclasses.replace(
        config,
        target_modules=tuple(layers),
        exclude_modules=None,
        modules_to_save=tuple(saved),
        rank_pattern={f"^{re.escape(name)}": rank for name, rank in ranks.items()},
        alpha_pattern=_alphas(config, layers),
    )
    return messages


def merge_lora(module: nn.Module) -> nn.Module:
    """Replace adapted layers by plain ones with the merged weight W + s B A, in place.

    Parameters
    ----------
    module : torch.nn.Module
        Is changed; without adapters nothing happens. Frozen weights get new storage.

    Returns
    -------
    torch.nn.Module
        `module`, with all its parameters trainable.

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
        A layer has `lora_A`, `lora_B`, `r`, `scaling`, `base_layer`, and `weight`, which is the
        merged weight.

    Examples
    --------
    >>> from sklearn_ext.lora import inject_lora, lora_layers
    >>> from sklearn_ext.neural import MLP
    >>> layer = lora_layers(inject_lora(MLP(20, 3), random_state=0))["1"]
    >>> layer.lora_B.weight.shape, layer.lora_A.weight.shape, layer.scaling
    (torch.Size([128, 8]), torch.Size([8, 20]), 2.0)
    """
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoRALayer)}


def norm_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield names and layers of normalisations with running statistics."""
    for name, layer in module.named_modules():
        if isinstance(layer, _NormBase) and layer.running_mean is not None:
            yield name, layer


def frozen_norms(module):
    """Normalisations whose running statistics belong to the frozen part."""
    config = getattr(module, "lora_config", AdapterConfig())
    return [
        layer
        for name, layer in norm_layers(module)
        if not any(_is_within(name, saved) for saved in config.modules_to_save)
    ]


def saved_modules(module, config):
    """Return the modules that are trained as they are, by their full names.

    Raises
    ------
    ValueError
        If a name of `modules_to_save` fits no module.
    """
    found = {}
    for suffix in config.modules_to_save:
        names = [name for name, _ in module.named_modules() if _ends_with(name, suffix)]
        if not names:
            children = [name for name, _ in module.named_modules() if name]
            raise ValueError(
                f"modules_to_save names {suffix!r}, which is no module; there are {children}."
            )
        found.update((name, module.get_submodule(name)) for name in names)
    return found


def target_layers(module, config, saved):
    """Return the layers to adapt by name.

    Raises
    ------
    ValueError
        If there is none.
    TypeError
        If a weight cannot be added to.
    """
    candidates = {
        name: layer
        for name, layer in module.named_modules()
        if name and layer_type(layer) and not any(_is_within(name, part) for part in saved)
    }
    layers = {
        name: layer
        for name, layer in candidates.items()
        if _is_target(module, name, layer, config.target_modules)
        and not (config.exclude_modules and _matches(name, config.exclude_modules))
    }
    if not layers:
        raise ValueError(
            f"target_modules={config.target_modules!r} (exclude_modules="
            f"{config.exclude_modules!r}) matches no layer that can be adapted; candidates are "
            f"{list(candidates)}."
        )
    for name, layer in layers.items():
        if not isinstance(layer.weight, nn.Parameter):
            raise TypeError(
                f"The weight of {name!r} is computed by a parametrisation and is no parameter "
                "itself; remove that first, or leave the layer out with exclude_modules."
            )
        if not dense(layer.weight).is_floating_point():
            raise TypeError(
                f"The weight of {name!r} is of type {layer.weight.dtype}; it must be of a "
                "floating type, or quantised so that torch can dequantise it."
            )
    return layers


def _is_target(module, name, layer, targets):
    if not isinstance(targets, str) or targets not in _KINDS:
        return _matches(name, targets)
    if targets == "all-linear":
        return isinstance(layer, nn.Linear)
    return targets == "all" or name != _last_parametric(module)


def _last_parametric(module):
    return [name for name, part in module.named_modules() if list(part.parameters(False))][-1]


def _matches(name, patterns):
    if isinstance(patterns, str):
        return re.fullmatch(patterns, name) is not None
    return any(_ends_with(name, suffix) for suffix in patterns)


def _ends_with(name, suffix):
    return name == suffix or name.endswith(f".{suffix}")


def _is_within(name, part):
    return name == part or name.startswith(f"{part}.")


def _replace(module, old, new):
    # A layer may sit at several places of the tree.
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child is old and parent is not new:
                parent._modules[name] = new


def _tied_weights(module, layers):
    owners = {}
    for name, part in module.named_modules():
        for weight in part.parameters(recurse=False):
            owners.setdefault(weight, []).append(name)
    return {
        name: f"The weight of {name!r} is tied: it belongs to {owners[layer.weight]}. It is "
        f"adapted in {name!r} alone, and gets no noise."
        for name, layer in layers.items()
        if len(owners[layer.weight]) > 1
    }


def _unreachable(module, config):
    if config.target_modules not in _KINDS:
        return
    fused = [
        name
        for name, part in module.named_modules()
        if isinstance(part, nn.MultiheadAttention) and part.in_proj_weight is not None
    ]
    if fused:
        yield (
            "The projections of queries, keys and values are one bare parameter in "
            f"torch.nn.MultiheadAttention and are not adapted: {fused}."
        )


def _thaw_biases(module, train_bias):
    if train_bias == "all":
        parts = module.modules()
    else:
        adapted = lora_layers(module).values() if train_bias == "lora_only" else ()
        parts = (layer.base_layer for layer in adapted)
    for part in parts:
        bias = part._parameters.get("bias")
        if bias is not None:
            bias.requires_grad_(True)


def _alphas(config, layers):
    alphas = {name: config.layer_params(name)["lora_alpha"] for name in layers}
    return {f"^{re.escape(name)}": a for name, a in alphas.items() if a != config.lora_alpha}
