"""Insert adapters into a network, and merge them into its weights."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ..neural import draw_seed, torch_generator
from ..utils._typing import RandomState
from ..utils._warnings import warn_caller
from ._config import AdapterConfig
from .layers import (
    AdaptableLayer,
    LoRALayer,
    check_names,
    fused_attention,
    is_within,
    norm_layers,
    saved_modules,
    target_layers,
    tied_weights,
    with_low_rank_update,
)


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
    use_dora: bool = False,
    init_lora_weights: bool | str = True,
    random_state: RandomState = None,
) -> nn.Module:
    r"""Freeze a network and add low-rank updates to its layers, in place.

    A layer with the weight W of shape (m, n) gets two factors: A of shape (r, n), which is uniform
    on :math:`\pm 1/\sqrt n`, and B of shape (m, r), which is zero. The layer then computes with
    :math:`W + s B A` [1]_. The outputs of the network do not change until the factors are trained.

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
        of the three types. The ``Conv1D`` of transformers counts as linear. A list contains names
        or ends of names, also of ``Embedding`` layers. Any other string is a regular expression
        that must match the whole name.
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
    use_dora : bool, default=False
        Whether the filters of W + s B A are scaled to norms that are trained separately, as in
        DoRA [2]_. Embeddings do not support it.
    init_lora_weights : bool or {"gaussian", "pissa", "olora", "lora_ga"}, default=True
        How the factors are initialized, with the names of peft. "gaussian" draws A from a normal
        distribution, and False makes B random, too, which changes the outputs. "pissa" [3]_ and
        "olora" [4]_ begin with the largest part of W, and subtract it from W at the same time.
        "lora_ga" begins like True; call :func:`initialize_from_gradients` next. Embeddings always
        have a random B and a zero A.
    random_state : int, RandomState instance or None, default=None
        Seeds the initial values of the factors. Pass an int for reproducible results.

    Returns
    -------
    torch.nn.Module
        `module`, whose new attribute `lora_config` is an :class:`AdapterConfig` that describes the
        adapters.

    Raises
    ------
    ValueError
        If no layer matches, if an entry of `target_modules` matches no layer, if the network
        already has adapters or has lazy layers without sizes, or if a value is out of range.
    TypeError
        If the weight of a layer is not floating-point and cannot be dequantized.

    See Also
    --------
    initialize_from_gradients : The initialization of LoRA-GA.
    merge_lora : Turn adapted layers back into plain ones.

    References
    ----------
    .. [1] E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022,
       arXiv:2106.09685.
    .. [2] S.-Y. Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", ICML 2024,
       arXiv:2402.09353.
    .. [3] F. Meng, Z. Wang, M. Zhang, "PiSSA: Principal Singular Values and Singular Vectors
       Adaptation of Large Language Models", NeurIPS 2024, arXiv:2404.02948.
    .. [4] K. Büyükakyüz, "OLoRA: Orthonormal Low-Rank Adaptation of Large Language Models", 2024,
       arXiv:2406.01775.

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
        use_dora=use_dora,
        init_lora_weights=init_lora_weights,
    )
    with unchanged_on_error(module):
        return inject(module, config, train_norm=train_norm, random_state=random_state)


def inject(
    module: nn.Module,
    config: AdapterConfig,
    *,
    train_norm: bool = False,
    is_stored: bool = False,
    random_state: RandomState = None,
) -> nn.Module:
    """Add adapters as :func:`inject_lora` does, given a config.

    If the config `is_stored` in a file, ranks are not limited, and names may match nothing.
    """
    if lora_layers(module):
        raise ValueError("module already has adapters; merge them with merge_lora first.")
    if lazy := [name for name, weight in module.named_parameters() if is_lazy(weight)]:
        raise ValueError(
            f"module must not have lazy layers without sizes, got {lazy}; pass a batch through it "
            "first."
        )
    if train_norm:
        norms = tuple(name for name, _ in norm_layers(module))
        config = dataclasses.replace(config, modules_to_save=(*config.modules_to_save, *norms))
    saved = saved_modules(module, config)
    layers = target_layers(module, config, saved)
    if not is_stored:
        check_names(module, config, layers)
    tied = tied_weights(module, layers)
    for message in (*fused_attention(module, config), *tied.values()):
        warn_caller(message)
    module.requires_grad_(False)
    generator = torch_generator(draw_seed(random_state))
    ranks: dict[str, int] = {}
    clipped: list[str] = []
    for name, layer in layers.items():
        params = config.layer_params(name)
        if not is_stored and params["r"] > (most := _largest_rank(layer)):
            params["r"] = most
            clipped.append(name)
        new = with_low_rank_update(
            layer, **params, takes_noise=name not in tied, generator=generator
        )
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
    vars(module)["lora_buffers"] = _buffers_of(module)
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
            _forget_adapters(module)
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
    _forget_adapters(module)
    return module.requires_grad_(True)


def initialize_from_gradients(module: nn.Module, backward: Callable[[], object]) -> nn.Module:
    """Initialize adapters from the gradients of the frozen weights, as in LoRA-GA [1]_.

    The factors are singular vectors of the gradient of each weight, so the first updates of the
    factors change the weights as full fine-tuning would. Their product is subtracted from W, so the
    outputs of the network do not change. Embeddings keep their factors.

    Parameters
    ----------
    module : torch.nn.Module
        A network with adapters from :func:`inject_lora` that have not been trained. It is modified.
    backward : callable
        Called once. It computes the loss of some batches and calls ``backward`` on it; gradients of
        several calls add up. During the call, the gradients of all frozen weights of the adapted
        layers are held in memory.

    Returns
    -------
    torch.nn.Module
        `module`.

    Raises
    ------
    ValueError
        If the network has no adapters, or if no gradient reaches a layer.

    References
    ----------
    .. [1] S. Wang, L. Yu, J. Li, "LoRA-GA: Low-Rank Adaptation with Gradient Approximation",
       NeurIPS 2024, arXiv:2407.05000.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.lora import initialize_from_gradients, inject_lora, lora_layers
    >>> from sklearn_ext.neural import MLP
    >>> module = inject_lora(MLP(4, 2), r=2, init_lora_weights="lora_ga", random_state=0)
    >>> def backward():
    ...     torch.nn.functional.cross_entropy(module(torch.eye(4)), torch.arange(4) % 2).backward()
    >>> layer = lora_layers(initialize_from_gradients(module, backward))["1"]
    >>> bool(layer.lora_B.weight.any()), bool(layer.delta().abs().max() < 1e-6)
    (True, True)
    """
    layers = {name: x for name, x in lora_layers(module).items() if x.initial_a is None}
    if not layers:
        raise ValueError(
            f"{type(module).__name__} has no adapters that could be initialized; add them with "
            'inject_lora(module, init_lora_weights="lora_ga").'
        )
    kept = {parameter: parameter.grad for parameter in module.parameters()}
    weights = {name: layer.base_layer.weight for name, layer in layers.items()}
    for parameter in kept:
        parameter.grad = None
    try:
        for weight in weights.values():
            weight.requires_grad_(True)
        backward()
        gradients = {name: weight.grad for name, weight in weights.items()}
    finally:
        for weight in weights.values():
            weight.requires_grad_(False)
        for parameter, gradient in kept.items():
            parameter.grad = gradient
    found: dict[str, torch.Tensor] = {}
    for name, gradient in gradients.items():
        if gradient is None or not bool(gradient.any()):
            raise ValueError(f"backward must give the layer {name!r} a gradient, got none.")
        found[name] = gradient
    for name, layer in layers.items():
        layer.follow_gradient(found[name])
    return module


def lora_plus_groups(
    module: nn.Module, *, lr: float, lr_ratio: float = 16.0
) -> list[dict[str, object]]:
    """Return parameter groups for an optimizer in which the factors B learn faster, as in LoRA+.

    Parameters
    ----------
    module : torch.nn.Module
        A network with adapters from :func:`inject_lora` or from peft.
    lr : float
        Learning rate of all trainable parameters except the factors B.
    lr_ratio : float, default=16.0
        The learning rate of the factors B is ``lr * lr_ratio`` [1]_.

    Returns
    -------
    list of dict
        Two groups with the keys `params` and `lr`.

    Raises
    ------
    ValueError
        If a number is not positive, or if no factor B is trainable.

    References
    ----------
    .. [1] S. Hayou, N. Ghosh, B. Yu, "LoRA+: Efficient Low Rank Adaptation of Large Models",
       ICML 2024, arXiv:2402.12354.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.lora import inject_lora, lora_plus_groups
    >>> from sklearn_ext.neural import MLP
    >>> groups = lora_plus_groups(inject_lora(MLP(4, 2), r=2, random_state=0), lr=1e-3)
    >>> [group["lr"] for group in torch.optim.AdamW(groups).param_groups]
    [0.001, 0.016]
    """
    for name, value in (("lr", lr), ("lr_ratio", lr_ratio)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be a positive number, got {value!r}.")
    fast: list[nn.Parameter] = []
    slow: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            (fast if is_factor_b(name) else slow).append(parameter)
    if not fast:
        raise ValueError(f"{type(module).__name__} has no trainable factors B.")
    return [{"params": slow, "lr": lr}, {"params": fast, "lr": lr * lr_ratio}]


def is_factor_b(name: str) -> bool:
    """Return whether a parameter is a factor B, in this package or in peft."""
    return bool({"lora_B", "lora_embedding_B"} & set(name.split(".")))


def _forget_adapters(module: nn.Module) -> None:
    for name in ("lora_config", "lora_buffers"):
        vars(module).pop(name, None)


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


def frozen_norms(module: nn.Module) -> list[nn.Module]:
    """Return the normalization layers whose running statistics must not change."""
    config = adapter_config_of(module)
    trained = () if config is None else config.modules_to_save
    return [
        layer
        for name, layer in norm_layers(module)
        if not any(is_within(name, saved) for saved in trained)
    ]


def _buffers_of(module: nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """Return copies of the stored buffers of each layer that has no parts."""
    saved = adapter_config_of(module)
    trained = () if saved is None else saved.modules_to_save
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, part in module.named_modules():
        is_leaf = name and not list(part.children())
        if is_leaf and not any(is_within(name, other) for other in trained):
            state = part.state_dict()
            own = {key: state[key].clone() for key, _ in part.named_buffers() if key in state}
            if own:
                found[name] = own
    return found


def changed_modules(module: nn.Module) -> list[str]:
    """Return the layers whose buffers, such as running statistics, have changed in training."""
    before = vars(module).get("lora_buffers", {})
    return [
        name
        for name, buffers in _buffers_of(module).items()
        if any(not torch.equal(b, before[name][key]) for key, b in buffers.items())
    ]


def _largest_rank(layer: AdaptableLayer) -> int:
    m, *rest = layer.weight.shape
    return min(m, math.prod(rest))


def _replace(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    # The same layer may be registered in several places.
    for parent in list(module.modules()):
        for name, child in parent._modules.items():
            if child is old and parent is not new:
                parent._modules[name] = new


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
