"""Model Stock: a point between a base and an average, determined by angles."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from ..ingredients import SMALL_CHUNK, IngredientStore, chunks, like, weighted_sum_

_SMALLEST_NORM = 1e-12


@torch.no_grad()
def merge_model_stock(
    module: nn.Module,
    ingredients: Sequence[Mapping[str, torch.Tensor]],
    base: Mapping[str, torch.Tensor],
) -> dict[str, float]:
    r"""Set the parameters of a module to the Model Stock of the ingredients [1]_.

    For each tensor, with the mean :math:`\bar w` of the N ingredients, the base :math:`w_0` and the
    mean cosine :math:`c` of the angles between pairs of task vectors :math:`w_i - w_0`,

    .. math:: w = t\, \bar w + (1 - t)\, w_0, \qquad t = \frac{N c}{1 + (N - 1)\, c} .

    Parameters
    ----------
    module : torch.nn.Module
        A module with the architecture of the ingredients.
    ingredients : sequence of mappings of str to tensor
        N state dicts. They are read and never changed.
    base : mapping of str to tensor
        Weights from which the ingredients were fine-tuned.

    Returns
    -------
    dict of str to float
        The ratio t for each parameter. It is 1 for a single ingredient.

    Raises
    ------
    ValueError
        If the ingredients do not fit the module.

    References
    ----------
    .. [1] D.-H. Jang, S. Yun, D. Han, "Model Stock: All We Need Is Just a Few Fine-Tuned Models",
       ECCV 2024, arXiv:2403.19522.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ext.soup import merge_model_stock
    >>> module = torch.nn.Linear(2, 1, bias=False)
    >>> base = {"weight": torch.zeros(1, 2)}
    >>> ingredients = [{"weight": torch.tensor([[1.0, 0.0]])},
    ...                {"weight": torch.tensor([[1.0, 1.0]])}]
    >>> ratios = merge_model_stock(module, ingredients, base)
    >>> round(ratios["weight"], 3)
    0.828
    >>> module.weight.detach().numpy().round(3)
    array([[0.828, 0.414]], dtype=float32)
    """
    store = IngredientStore.of(module, ingredients)
    n = len(store)
    ratios: dict[str, float] = {}
    for name, own in store.parameters.items():
        tensors = [store.tensor(k, name) for k in range(n)]
        ratio = interpolation_ratio(task_vector_cosines(tensors, base[name]))
        weights = [1.0 - ratio, *[ratio / n] * n]
        weighted_sum_(own.detach(), [base[name], *tensors], weights)
        ratios[name] = ratio
    return ratios


def task_vector_cosines(tensors: list[torch.Tensor], base: torch.Tensor) -> torch.Tensor:
    """Return the cosine of the angle between each pair of task vectors of one tensor.

    Returns
    -------
    tensor of float64 of shape (n_pairs,)
        It is 0 for a pair with a task vector of length 0.
    """
    n = len(tensors)
    gram = torch.zeros((n, n), dtype=torch.float64)
    for start, *versions in zip(
        chunks(base, SMALL_CHUNK), *(chunks(t, SMALL_CHUNK) for t in tensors), strict=True
    ):
        origin = start.float()
        vectors = torch.stack([like(version, origin) - origin for version in versions])
        gram += (vectors @ vectors.T).double().cpu()
    norms = gram.diagonal().clamp(min=0).sqrt()
    first, second = torch.triu_indices(n, n, offset=1)
    products = (norms[first] * norms[second]).clamp(min=_SMALLEST_NORM)
    return (gram[first, second] / products).clamp(-1.0, 1.0)


def interpolation_ratio(cosines: torch.Tensor) -> float:
    r"""Return t for the cosines of all pairs of N task vectors; 1 without pairs.

    Cosines whose mean is at or below :math:`-1 / (N - 1)`, where the formula has its pole, cannot
    belong to N vectors of equal length except in the limit. The ratio is then 0.
    """
    if len(cosines) == 0:
        return 1.0
    n = round((1 + (1 + 8 * len(cosines)) ** 0.5) / 2)
    mean = float(cosines.mean())
    divisor = 1.0 + (n - 1) * mean
    return n * mean / divisor if divisor > 0 else 0.0
