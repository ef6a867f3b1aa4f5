r"""Merging of task vectors, which are differences between fine-tuned networks and their base.

With the base :math:`w_0`, the task vectors :math:`\tau_i = w_i - w_0` and weights
:math:`\lambda_i`, a merged network is

.. math:: w = w_0 + s \sum_i \lambda_i\, m_i \circ \tau_i \Big/ \sum_i \lambda_i m_i ,

where :math:`s` is the scaling, the masks :math:`m_i` are those of the rule, and the division is
optional. Without masks this is task arithmetic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ...neural import draw_seed, torch_generator
from ...utils._typing import FloatArray
from ..ingredients import IngredientStore, as_real, chunks, like

_SMALLEST_SUM = 1e-8


@dataclass(frozen=True, kw_only=True)
class TaskVectorConfig:
    """Settings of :func:`merged_task_vector`.

    Parameters
    ----------
    weights : ndarray of shape (n_ingredients,)
        Weight of each task vector.
    trim : {"none", "magnitude", "random"}, default="none"
        Which entries of a task vector are kept: all, the largest of each tensor, or random ones,
        which are divided by `density` to keep their expectation.
    density : float in (0, 1], default=1.0
        Fraction of the entries that are kept.
    elect_signs : bool, default=False
        Whether to count only entries whose sign agrees with that of the weighted sum.
    normalize : bool, default=False
        Whether each entry is divided by the sum of the weights that count.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ext.soup import TaskVectorConfig
    >>> TaskVectorConfig(weights=np.ones(3), trim="magnitude", density=0.2).normalize
    False
    """

    weights: FloatArray
    trim: str = "none"
    density: float = 1.0
    elect_signs: bool = False
    normalize: bool = False


@torch.no_grad()
def merged_task_vector(
    module: nn.Module,
    ingredients: Sequence[Mapping[str, torch.Tensor]],
    base: Mapping[str, torch.Tensor],
    *,
    config: TaskVectorConfig,
    rng: np.random.RandomState,
) -> dict[str, torch.Tensor]:
    """Merge the task vectors of some ingredients.

    Ingredients are read chunk by chunk, so that only one merged task vector and one tensor of one
    ingredient are in memory.

    Parameters
    ----------
    module : torch.nn.Module
        A module with the architecture of the ingredients. It is not changed.
    ingredients : sequence of mappings of str to tensor
        N state dicts. They are read and never changed.
    base : mapping of str to tensor
        Weights from which the ingredients were fine-tuned.
    config : TaskVectorConfig
        Settings.
    rng : numpy.random.RandomState
        Draws the entries that random trimming keeps.

    Returns
    -------
    dict of str to tensor
        The merged task vector for each parameter of the module, in single or double precision. The
        merged network is the base plus a multiple of it.

    Raises
    ------
    ValueError
        If the ingredients do not fit the module.

    References
    ----------
    .. [1] P. Yadav, D. Tam, L. Choshen, C. Raffel, M. Bansal, "TIES-Merging: Resolving
       Interference When Merging Models", NeurIPS 2023, arXiv:2306.01708.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_ext.soup import TaskVectorConfig, merged_task_vector
    >>> module = torch.nn.Linear(3, 1, bias=False)
    >>> base = {"weight": torch.zeros(1, 3)}
    >>> ingredients = [{"weight": torch.tensor([[1.0, 0.1, 3.0]])},
    ...                {"weight": torch.tensor([[-2.0, 0.1, 1.0]])}]
    >>> config = TaskVectorConfig(weights=np.ones(2), elect_signs=True, normalize=True)
    >>> merged_task_vector(module, ingredients, base, config=config, rng=np.random.RandomState(0))
    {'weight': tensor([[-2.0000,  0.1000,  2.0000]])}
    """
    store = IngredientStore.of(module, ingredients)
    seed = draw_seed(rng)
    merged: dict[str, torch.Tensor] = {}
    for number, (name, own) in enumerate(store.parameters.items()):
        real = as_real(own)
        dtype = real.dtype if real.dtype in (torch.float32, torch.float64) else torch.float32
        out = torch.empty_like(real, dtype=dtype, memory_format=torch.contiguous_format)
        tensors = [store.tensor(k, name) for k in range(len(store))]
        thresholds = [_threshold(tensor, base[name], config, out) for tensor in tensors]
        generators = [
            torch_generator(seed + number * len(tensors) + k) for k in range(len(tensors))
        ]
        parts = zip(chunks(out), chunks(base[name]), *map(chunks, tensors), strict=True)
        for target, start, *versions in parts:
            origin = like(start, target)
            vectors = [
                _trimmed(like(version, target) - origin, config, threshold, generator)
                for version, threshold, generator in zip(
                    versions, thresholds, generators, strict=True
                )
            ]
            target.copy_(_combined(vectors, config))
        merged[name] = torch.view_as_complex(out) if own.is_complex() else out
    return merged


def _threshold(
    tensor: torch.Tensor, base: torch.Tensor, config: TaskVectorConfig, out: torch.Tensor
) -> float:
    """Return the smallest magnitude that is kept in the task vector of one tensor."""
    if config.trim != "magnitude" or config.density >= 1.0:
        return 0.0
    sizes = (like(as_real(tensor), out) - like(as_real(base), out)).abs_().reshape(-1)
    n_kept = max(int(config.density * sizes.numel()), 1)
    return float(sizes.kthvalue(sizes.numel() - n_kept + 1).values)


def _trimmed(
    vector: torch.Tensor, config: TaskVectorConfig, threshold: float, generator: torch.Generator
) -> torch.Tensor:
    if config.density >= 1.0 or config.trim == "none":
        return vector
    if config.trim == "magnitude":
        return vector.masked_fill_(vector.abs() < threshold, 0.0)
    kept = torch.rand(vector.shape, generator=generator).to(vector.device) < config.density
    return vector.masked_fill_(~kept, 0.0).div_(config.density)


def _combined(vectors: list[torch.Tensor], config: TaskVectorConfig) -> torch.Tensor:
    weights = config.weights.tolist()
    total = torch.zeros_like(vectors[0])
    for vector, weight in zip(vectors, weights, strict=True):
        total.add_(vector, alpha=weight)
    if not config.elect_signs:
        divisor = sum(weights) if config.normalize else 1.0
        return total.div_(divisor if abs(divisor) > _SMALLEST_SUM else 1.0)
    elected = torch.where(total >= 0, 1.0, -1.0)
    total.zero_()
    counted = torch.zeros_like(total)
    for vector, weight in zip(vectors, weights, strict=True):
        agrees = ((vector * weight).sign() == elected).to(vector.dtype)
        total.add_(vector * agrees, alpha=weight)
        counted.add_(agrees, alpha=weight)
    if config.normalize:
        total.div_(torch.where(counted == 0, 1.0, counted))
    return total


@torch.no_grad()
def add_task_vector_(
    store: IngredientStore,
    base: Mapping[str, torch.Tensor],
    vector: Mapping[str, torch.Tensor],
    scaling: float,
) -> None:
    """Set the parameters of the module to the base plus a scaled task vector."""
    for name, own in store.parameters.items():
        own.copy_(like(base[name], vector[name]) + scaling * vector[name])
