r"""RegMean: linear layers merged in closed form, from the inner products of their inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..ingredients import IngredientStore

_JITTER = 1e-6


@torch.no_grad()
def merge_reg_mean(
    module: nn.Module,
    ingredients: Sequence[Mapping[str, torch.Tensor]],
    batches: Callable[[], Iterable[Any]],
    *,
    forward: Callable[[Any], Any] | None = None,
    shrinkage: float = 0.9,
) -> list[str]:
    r"""Set the parameters of a module to the RegMean of the ingredients [1]_.

    For a linear layer whose inputs in network i have the inner products :math:`G_i = X_i^T X_i`,
    the merged weights minimize the squared distance of the outputs from those of each network:

    .. math:: W^T = \Bigl(\sum_i \tilde G_i\Bigr)^{-1} \sum_i \tilde G_i W_i^T, \qquad
        \tilde G_i = \alpha G_i + (1 - \alpha)\, \mathrm{diag}(G_i) .

    All other parameters are averaged. Memory holds two tensors for each linear layer, of the sizes
    of its weight and of its inner products, and one network at a time.

    Parameters
    ----------
    module : torch.nn.Module
        A module with the architecture of the ingredients. It is left in evaluation mode.
    ingredients : sequence of mappings of str to tensor
        N state dicts. They are read and never changed.
    batches : callable
        Returns the batches of samples, in the same order each time.
    forward : callable or None, default=None
        Runs the module on a batch. None calls the module.
    shrinkage : float in [0, 1], default=0.9
        The factor alpha of the inner products of different inputs.

    Returns
    -------
    list of str
        Names of the weights that were merged in closed form. A linear layer whose weight the
        network uses without calling the layer is averaged, and so is a layer with complex weights.

    Raises
    ------
    ValueError
        If the ingredients do not fit the module.

    References
    ----------
    .. [1] X. Jin, X. Ren, D. Preotiuc-Pietro, P. Cheng, "Dataless Knowledge Fusion by Merging
       Weights of Language Models", ICLR 2023, arXiv:2212.09849.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.soup import merge_reg_mean
    >>> module = torch.nn.Linear(2, 1, bias=False)
    >>> ingredients = [{"weight": torch.tensor([[1.0, 0.0]])},
    ...                {"weight": torch.tensor([[0.0, 1.0]])}]
    >>> merge_reg_mean(module, ingredients, lambda: [torch.eye(2)])
    ['weight']
    >>> module.weight.detach()
    tensor([[0.5000, 0.5000]])
    """
    store = IngredientStore.of(module, ingredients)
    forward = module if forward is None else forward
    module.eval()
    names = {id(parameter): name for name, parameter in store.parameters.items()}
    layers = {
        names[id(layer.weight)]: layer
        for layer in module.modules()
        if isinstance(layer, nn.Linear)
        and id(layer.weight) in names
        and not layer.weight.is_complex()
    }
    totals: dict[str, torch.Tensor] = {}
    products: dict[str, torch.Tensor] = {}
    plain: dict[str, torch.Tensor] = {}
    for k in range(len(store)):
        store.load_(k)
        for name, gram in _input_products(layers, forward, batches()).items():
            gram = shrinkage * gram + (1.0 - shrinkage) * torch.diag(gram.diagonal())
            weight = layers[name].weight.detach().T.to(torch.float64, copy=True)
            for sums, value in ((totals, gram), (products, gram @ weight), (plain, weight)):
                sums[name] = value if name not in sums else sums[name].add_(value)
    store.average_(range(len(store)))
    for name, total in totals.items():
        # Inputs that are always 0 leave weights undetermined; they become the mean.
        jitter = _JITTER * float(total.diagonal().mean())
        n = len(store)
        if jitter > 0:
            regular = total + n * jitter * torch.eye(len(total), dtype=total.dtype)
            merged = torch.linalg.solve(regular, products[name] + jitter * plain[name])
            layers[name].weight.copy_(merged.T)
    return list(totals)


def _input_products(
    layers: dict[str, nn.Linear], forward: Callable[[Any], Any], batches: Iterable[Any]
) -> dict[str, torch.Tensor]:
    """Return the inner products of the inputs of each layer that is called, in float64."""
    products: dict[str, torch.Tensor] = {}

    def hook_for(name: str) -> Callable[..., None]:
        def add(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].reshape(-1, inputs[0].shape[-1]).double().cpu()
            gram = rows.T @ rows
            products[name] = gram if name not in products else products[name].add_(gram)

        return add

    handles = [layer.register_forward_pre_hook(hook_for(name)) for name, layer in layers.items()]
    try:
        for batch in batches:
            forward(batch)
    finally:
        for handle in handles:
            handle.remove()
    return products
