"""MEHL-Soup: coefficients of any sign that sum to 1, by block coordinate descent."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...neural import draw_seed, seeded
from ..ingredients import IngredientStore, samples_of, weights_by_tensor
from ._descent import CoefficientDescent, LearnedCoefficients, MixingConfig, training_only
from ._directions import (
    directions_of_block,
    leading_directions_of_block,
    n_directions_that_fit,
    stores_by_default,
)
from ._gradient import (
    coefficient_gradient,
    coefficients_after_step,
    direction_scales,
    hyperplane_gradient,
    sum_by_group,
)
from ._groups import mixed_tensors, parameter_groups


@dataclass(frozen=True, kw_only=True)
class MEHLConfig(MixingConfig):
    """Settings of :func:`learn_mehl_coefficients`.

    :class:`~sklearn_ext.MEHLSoup` has parameters of the same names and describes them in detail.

    Parameters
    ----------
    layerwise : bool, "module" or callable, default=True
        How parameters are grouped, as in :func:`parameter_groups`.

    max_epochs : int, default=5
        Passes over the mixing samples for each block.

    min_iter : int, default=50
        Minimum number of steps for each block.

    learning_rate : float, default=0.03
        Peak learning rate.

    batch_size : int, default=64
        Number of mixing samples per step.

    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
        Optimizer of the coefficients. Its weight decay is set to 0.

    warmup : float or None, default=0.2
        Fraction of the steps during which the learning rate rises before falling along a cosine.
        None keeps it constant.

    clip_norm : float or None, default=1.0
        Maximum norm of the gradient with respect to the weights.

    directions : {"auto", "streamed", "stored"}, default="auto"
        Whether ingredients are read at each step or kept in memory.

    block_size : int or None, default=None
        Number of ingredients that are mixed at a time. None mixes all of them, or as many as fit
        into half of the free memory of a GPU.

    n_directions : int or None, default=None
        Number of leading directions of each group along which a block is mixed. None uses the
        direction of every ingredient.

    n_outer : int, default=1
        Passes over all ingredients.

    scale : {"mean", "unit", "raw"}, default="mean"
        Unit of the learning rate along the directions.

    start : {"mean", "first_block"}, default="mean"
        Whether the first block starts from the mean of all ingredients or from its own mean.

    Examples
    --------
    >>> from sklearn_ext.soup import MEHLConfig
    >>> MEHLConfig(block_size=4).learning_rate
    0.03
    """

    block_size: int | None = None
    n_directions: int | None = None
    n_outer: int = 1
    scale: str = "mean"
    start: str = "mean"


def learn_mehl_coefficients(
    module: nn.Module,
    ingredients: Sequence[Mapping[str, torch.Tensor]],
    X: Any,
    y: Any,
    loss: Callable[[Any, torch.Tensor], torch.Tensor],
    *,
    config: MEHLConfig,
    rng: np.random.RandomState,
    after_step: Callable[[], bool] | None = None,
) -> LearnedCoefficients:
    r"""Learn the coefficients of a hyperplane learned soup by block coordinate descent.

    Each block starts from the current soup, as the origin c of its directions, with a fresh
    optimizer and learning rate schedule. A step runs one backward pass through one combined
    network and follows :func:`coefficient_gradient`. A later block can shrink the coefficients of
    earlier ones, so on a convex problem the scheme reaches the optimum of the whole hyperplane
    for any block size.

    Parameters
    ----------
    module : torch.nn.Module
        A module with the architecture of the ingredients. On return, it has the weights of the soup
        and is in evaluation mode. It runs in training mode meanwhile, so you need to set its
        buffers, such as running statistics, afterwards.
    ingredients : sequence of mappings of str to tensor
        N state dicts. They are read and never changed.
    X : array, tensor, dict of them, torch.utils.data.Dataset, or reader
        Inputs of the mixing samples. Batches move to the device of the module one by one.
    y : array or tensor of shape (n_samples, ...), or None
        Targets of the mixing samples, in the form that `loss` takes. None if X is a reader, which
        has its own.
    loss : callable
        Takes a batch of inputs and targets, and returns the mean loss of the module as a tensor
        of shape ().
    config : MEHLConfig
        Settings.
    rng : numpy.random.RandomState
        Draws the blocks and the order of the samples.
    after_step : callable or None, default=None
        Called without arguments after each step; it ends the descent of the block if it returns
        True.

    Returns
    -------
    LearnedCoefficients
        ``coef``, a float64 tensor of shape (n_groups, n_ingredients) whose rows sum to 1;
        ``groups``, the names of the tensors in each group; and ``history``, with a dict for each
        step.

    Raises
    ------
    ValueError
        If the ingredients do not fit the module, if ``config.layerwise`` is not allowed, or if the
        loss is not finite.

    References
    ----------
    .. [1] T. Li, W. Jiang, F. Liu, X. Huang, J. T. Kwok, "Learning Scalable Model Soup on a Single
       GPU: An Efficient Subspace Training Strategy", ECCV 2024, arXiv:2407.03641.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_ext.soup import MEHLConfig, learn_mehl_coefficients
    >>> module = torch.nn.Linear(2, 1, bias=False)
    >>> ingredients = [{"weight": torch.tensor([[1.0, 0.0]])},
    ...                {"weight": torch.tensor([[0.0, 1.0]])}]
    >>> X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> y = X @ torch.tensor([[2.0], [-1.0]])
    >>> result = learn_mehl_coefficients(
    ...     module, ingredients, X, y,
    ...     lambda inputs, targets: torch.nn.functional.mse_loss(module(inputs), targets),
    ...     config=MEHLConfig(learning_rate=0.1, min_iter=200),
    ...     rng=np.random.RandomState(0),
    ... )
    >>> result.coef.numpy().round(2)
    array([[ 2., -1.]])
    """
    store = IngredientStore.of(module, ingredients)
    samples = samples_of(module, X, y)
    groups = parameter_groups(store.parameters, config.layerwise)
    mixed = mixed_tensors(store, groups, len(samples))
    n = len(store)
    weights = [store.parameters[name] for name in mixed.names]
    block_size = config.block_size
    if block_size is None:
        block_size = n
        if weights and config.directions == "auto" and stores_by_default(weights):
            block_size = min(n, n_directions_that_fit(weights))
    # Equal ingredients leave nothing to learn.
    blocks = _random_blocks(n, block_size, config.n_outer, rng) if mixed.names else []
    start = blocks[0][1] if blocks and config.start == "first_block" else list(range(n))
    store.average_(start)
    coef = torch.zeros((mixed.n_groups, n), dtype=torch.float64)
    coef[:, start] = 1.0 / len(start)
    history: list[dict[str, Any]] = []
    device = next(iter(store.parameters.values())).device
    with training_only(module, mixed.names), seeded(draw_seed(rng), device):
        for number, (outer, block) in enumerate(blocks):
            directions = None  # free the previous block, whose directions may be stored
            combinations = None
            if config.n_directions is not None and config.n_directions < len(block):
                directions, combinations = leading_directions_of_block(
                    store, mixed, block, config.n_directions
                )
            else:
                directions = directions_of_block(store, mixed, block, coef, config.directions)
            norms = sum_by_group(directions.squared_norms(), mixed.group_of, mixed.n_groups).sqrt()
            scales = direction_scales(norms, config.scale)
            if not scales.any():
                continue  # the only ingredient of the block is the origin itself
            z = torch.zeros_like(scales, requires_grad=True)
            descent = CoefficientDescent([z], samples, config, draw_seed(rng))
            for inputs, targets in descent.batches():
                value = loss(inputs, targets)
                q = torch.autograd.grad(value, weights, materialize_grads=True)
                gradient = coefficient_gradient(
                    q, directions, mixed.group_of, mixed.n_groups, clip_norm=config.clip_norm
                )
                z.grad = hyperplane_gradient(scales, gradient)
                del q  # as large as the network, and not needed during the next backward pass
                descent.step(value)
                directions.move_((scales * z.detach())[mixed.group_of])
                if after_step is not None and after_step():
                    break
            step = scales * z.detach()
            if combinations is not None:
                step = torch.einsum("gbr,gr->gb", combinations, step)
            coef = coefficients_after_step(coef, block, step)
            if combinations is not None:  # without the rounding of half precision
                store.combine_(weights_by_tensor(coef.numpy(), groups), range(n))
            history += [{"outer": outer, "block": number, **record} for record in descent.history]
    return LearnedCoefficients(coef, groups, history)


def _random_blocks(
    n_ingredients: int, block_size: int, n_outer: int, rng: np.random.RandomState
) -> list[tuple[int, list[int]]]:
    """Divide the ingredients into random blocks, anew for each pass over them.

    The last block of a pass may be smaller than the others.
    """
    orders = [rng.permutation(n_ingredients).tolist() for _ in range(n_outer)]
    return [
        (outer, order[k : k + block_size])
        for outer, order in enumerate(orders)
        for k in range(0, n_ingredients, block_size)
    ]
