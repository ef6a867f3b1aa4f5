"""Learned soup: positive coefficients that sum to 1, by gradient descent on softmax logits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...neural import draw_seed, seeded
from ..ingredients import IngredientStore, samples_of
from ._descent import CoefficientDescent, LearnedCoefficients, MixingConfig, training_only
from ._directions import directions_of_block
from ._gradient import coefficient_gradient, softmax_gradient
from ._groups import mixed_tensors, parameter_groups


@dataclass(frozen=True, kw_only=True)
class LearnedConfig(MixingConfig):
    """Settings of :func:`learn_simplex_coefficients`.

    :class:`~sklearn_ext.LearnedSoup` has parameters of the same names and describes them in detail.

    Parameters
    ----------
    layerwise : bool, "module" or callable, default=True
        How parameters are grouped, as in :func:`parameter_groups`.

    max_epochs : int, default=5
        Passes over the mixing samples.

    min_iter : int, default=50
        Minimum number of steps.

    learning_rate : float, default=0.05
        Peak learning rate.

    batch_size : int, default=256
        Number of mixing samples per step.

    optimizer : torch.optim.Optimizer class, default=torch.optim.AdamW
        Optimizer of the logits and the temperature. Its weight decay is set to 0.

    warmup : float or None, default=None
        Fraction of the steps during which the learning rate rises before falling along a cosine.
        None keeps it constant.

    clip_norm : float or None, default=None
        Maximum norm of the gradient with respect to the weights.

    directions : {"auto", "streamed", "stored"}, default="auto"
        Whether ingredients are read at each step or kept in memory.

    learn_temperature : bool, default=True
        Whether to learn a scale factor for the network's outputs as well.

    Examples
    --------
    >>> from sklearn_ext.soup import LearnedConfig
    >>> LearnedConfig(layerwise=False).batch_size
    256
    """

    learning_rate: float = 0.05
    batch_size: int = 256
    warmup: float | None = None
    clip_norm: float | None = None
    learn_temperature: bool = True


def learn_simplex_coefficients(
    module: nn.Module,
    ingredients: Sequence[Mapping[str, torch.Tensor]],
    X: Any,
    y: Any,
    loss: Callable[..., torch.Tensor],
    *,
    config: LearnedConfig,
    rng: np.random.RandomState,
    after_step: Callable[[], bool] | None = None,
) -> LearnedCoefficients:
    r"""Learn the coefficients of a learned soup, and a temperature, by gradient descent.

    The coefficients are :math:`\alpha_g = \mathrm{softmax}(z_g)`. A step runs one backward pass
    through one combined network, and its memory does not grow with the number of ingredients.

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
        of shape (). With ``config.learn_temperature`` it also takes a tensor of shape (), the
        logarithm of the factor by which it must multiply the logits.
    config : LearnedConfig
        Settings.
    rng : numpy.random.RandomState
        Draws the order of the samples.
    after_step : callable or None, default=None
        Called without arguments after each step; it ends the descent if it returns True.

    Returns
    -------
    LearnedCoefficients
        ``coef``, a float64 tensor of shape (n_groups, n_ingredients) whose rows sum to 1;
        ``groups``, the names of the tensors in each group; ``history``, with a dict for each step;
        and ``log_factor``, a tensor of shape (), or None if the temperature was not learned.

    Raises
    ------
    ValueError
        If the ingredients do not fit the module, if ``config.layerwise`` is not allowed, or if the
        loss is not finite.

    References
    ----------
    .. [1] M. Wortsman et al., "Model Soups: Averaging Weights of Multiple Fine-tuned Models
       Improves Accuracy without Increasing Inference Time", ICML 2022, arXiv:2203.05482.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from sklearn_ext.soup import LearnedConfig, learn_simplex_coefficients
    >>> module = torch.nn.Linear(2, 1, bias=False)
    >>> ingredients = [{"weight": torch.tensor([[1.0, 0.0]])},
    ...                {"weight": torch.tensor([[0.0, 1.0]])}]
    >>> X = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> y = X @ torch.tensor([[0.75], [0.25]])
    >>> result = learn_simplex_coefficients(
    ...     module, ingredients, X, y,
    ...     lambda inputs, targets: torch.nn.functional.mse_loss(module(inputs), targets),
    ...     config=LearnedConfig(min_iter=200, learn_temperature=False),
    ...     rng=np.random.RandomState(0),
    ... )
    >>> result.coef.numpy().round(2)
    array([[0.75, 0.25]])
    """
    store = IngredientStore.of(module, ingredients)
    samples = samples_of(module, X, y)
    groups = parameter_groups(store.parameters, config.layerwise)
    mixed = mixed_tensors(store, groups, len(samples))
    all_ingredients = list(range(len(store)))
    store.average_(all_ingredients)
    z = torch.zeros((mixed.n_groups, len(store)), dtype=torch.float64, requires_grad=True)
    coef = z.detach().softmax(dim=1)
    device = next(iter(store.parameters.values())).device
    log_factor = torch.zeros((), device=device, requires_grad=True)
    extra = [log_factor] if config.learn_temperature else []
    history: list[dict[str, Any]] = []
    module.eval()
    if mixed.names:  # equal ingredients leave nothing to learn
        weights = [store.parameters[name] for name in mixed.names]
        with training_only(module, mixed.names), seeded(draw_seed(rng), device):
            directions = directions_of_block(store, mixed, all_ingredients, coef, config.directions)
            descent = CoefficientDescent([z, *extra], samples, config, draw_seed(rng))
            for inputs, targets in descent.batches():
                value = loss(inputs, targets, *extra)
                q = torch.autograd.grad(value, [*weights, *extra], materialize_grads=True)
                gradient = coefficient_gradient(
                    q[: len(weights)],
                    directions,
                    mixed.group_of,
                    mixed.n_groups,
                    clip_norm=config.clip_norm,
                )
                z.grad = softmax_gradient(coef, gradient)
                if config.learn_temperature:
                    log_factor.grad = q[-1]
                del q  # as large as the network, and not needed during the next backward pass
                descent.step(value)
                coef = z.detach().softmax(dim=1)
                directions.move_(coef[mixed.group_of])
                if after_step is not None and after_step():
                    break
            history = descent.history
    return LearnedCoefficients(
        coef, groups, history, log_factor.detach() if config.learn_temperature else None
    )
