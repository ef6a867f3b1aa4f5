"""Groups of parameters that share one set of coefficients."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from sklearn.utils._param_validation import StrOptions

from ...utils._warnings import warn_caller
from ..ingredients import IngredientStore

GroupingRule = bool | str | Callable[[str], str]


def _group_of_its_own(name: str) -> str:
    return name


def _one_group(name: str) -> str:
    return "all"


def _group_of_its_layer(name: str) -> str:
    layer, dot, _ = name.rpartition(".")
    return layer if dot else name


# The values of the parameter `layerwise`, each with a function from the name of a parameter to the
# name of its group. To add a rule, add an entry here, which also allows the value in MEHLSoup and
# LearnedSoup. Then describe it in the docstrings of `layerwise` (parameter_groups, MEHLConfig,
# LearnedConfig, MEHLSoup, LearnedSoup), in docs/user_guide/soup.rst ("Parameters that matter") and
# in CHANGELOG.md. If it makes fewer groups than True, add it to the warning in `mixed_tensors`,
# which names the rules. Test it in tests/soup/test_parameter_groups.py.
GROUPING_RULES: dict[bool | str, Callable[[str], str]] = {
    True: _group_of_its_own,
    False: _one_group,
    "module": _group_of_its_layer,
}
LAYERWISE_CONSTRAINT = [
    "boolean",
    StrOptions({rule for rule in GROUPING_RULES if isinstance(rule, str)}),
    callable,
]


def parameter_groups(names: Iterable[str], layerwise: GroupingRule) -> dict[str, list[str]]:
    """Divide the parameters of a network into groups.

    Parameters
    ----------
    names : iterable of str
        Names of the parameters of a module.
    layerwise : bool, "module" or callable
        True makes each tensor a group of its own. False puts all tensors in one group. "module"
        groups tensors by the module that owns them, such as the weight and bias of a linear layer.
        A callable takes the name of a parameter and returns the name of its group.

    Returns
    -------
    dict of str to list of str
        The names of the tensors in each group. Groups are in the order of their first tensors.

    Raises
    ------
    ValueError
        If `layerwise` is not one of the allowed values, or if the callable returns anything other
        than a str.

    Examples
    --------
    >>> from sklearn_ext.soup import parameter_groups
    >>> parameter_groups(["0.weight", "0.bias", "2.weight"], "module")
    {'0': ['0.weight', '0.bias'], '2': ['2.weight']}
    """
    group_name = _group_name_function(layerwise)
    groups: dict[str, list[str]] = {}
    for name in names:
        group = group_name(name)
        if not isinstance(group, str):
            raise ValueError(
                "The callable given as layerwise must return the name of a group as a str, got "
                f"{group!r} for the parameter {name!r}."
            )
        groups.setdefault(group, []).append(name)
    return groups


def _group_name_function(layerwise: GroupingRule) -> Callable[[str], str]:
    if callable(layerwise):
        return layerwise
    if layerwise not in list(GROUPING_RULES):  # a list, because values such as [] are not hashable
        allowed = ", ".join(map(repr, GROUPING_RULES))
        raise ValueError(f"layerwise must be {allowed} or a callable, got {layerwise!r}.")
    return GROUPING_RULES[layerwise]


@dataclass(frozen=True)
class MixedTensors:
    """The tensors whose coefficients are learned, and the groups that they belong to.

    Attributes
    ----------
    names : list of str
        The T tensors that differ between ingredients.
    group_of : tensor of int64 of shape (T,)
        Index of the group of each tensor.
    n_groups : int
        Number G of groups, including those whose tensors are equal in all ingredients and whose
        coefficients therefore do not change.
    """

    names: list[str]
    group_of: torch.Tensor
    n_groups: int


def mixed_tensors(
    store: IngredientStore, groups: Mapping[str, list[str]], n_samples: int
) -> MixedTensors:
    """Find the tensors that differ between ingredients, and their groups.

    This function warns if it finds more coefficients to learn than samples.
    """
    index = {name: g for g, members in enumerate(groups.values()) for name in members}
    names = store.differing_parameters()
    group_of = torch.tensor([index[name] for name in names], dtype=torch.int64)
    n_coefficients = len(store) * len(set(group_of.tolist()))
    if n_samples < n_coefficients:
        warn_caller(
            f"{n_coefficients} coefficients are learned on {n_samples} samples. Use more mixing "
            "samples, or fewer groups: layerwise='module' or layerwise=False."
        )
    return MixedTensors(names, group_of, len(groups))
