"""One adapter from several: the weighted sum of their updates."""

import copy
import os
import re
from collections.abc import Sequence
from numbers import Integral

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from ..utils._typing import FloatArray
from ._adapter_files import load_adapter, lora_state_dict, required_config
from ._config import AdapterConfig
from ._injection import inject, lora_layers, unchanged_on_error

_SMALLEST_SUM = 1e-8
_FACTORS = {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"}


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
        For each adapted layer, the Frobenius norm of the part of the update that was cut off,
        divided by that of the whole update.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If `paths` is empty, if `weights` or `r` is invalid, or if an adapter does not fit the
        network, which then stays as it is.

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
    if n == 0:
        raise ValueError("paths must name at least one adapter, got none.")
    given = np.full(n, 1.0 / n) if weights is None else np.asarray(weights, dtype=float)
    if given.shape != (n,) or not np.isfinite(given).all():
        raise ValueError(f"weights must be {n} finite numbers, one per adapter, got {weights!r}.")
    if r is not None and (not isinstance(r, Integral) or isinstance(r, bool) or r < 1):
        raise ValueError(f"r must be a positive integer or None, got {r!r}.")
    factors: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    others: dict[str, torch.Tensor] = {}
    configs = []
    plain = copy.deepcopy(module)
    for path, weight in zip(paths, given.tolist(), strict=True):
        adapted = load_adapter(copy.deepcopy(plain), path)
        configs.append(required_config(adapted))
        layers = lora_layers(adapted)
        for name, layer in layers.items():
            A, B = (factor.flatten(1).double() for factor in layer.factors())
            factors.setdefault(name, []).append((B * (weight * layer.scaling), A))
        share = _share(weight, given)
        for name, tensor in lora_state_dict(adapted).items():
            if not _FACTORS & set(name.split(".")):
                part = tensor.double() * share
                others[name] = others[name] + part if name in others else part
    if any(config.use_dora for config in configs):
        raise ValueError("Adapters of DoRA cannot be merged, because their sum is not low-rank.")
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
        inject(module, config, is_stored=True, random_state=0)
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
