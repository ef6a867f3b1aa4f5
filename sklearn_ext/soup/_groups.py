"""Groups of parameters that share their coefficients."""

from collections.abc import Callable


def parameter_groups(names, layerwise: bool | str | Callable[[str], str]) -> dict[str, list[str]]:
    """Divide parameters into groups.

    Parameters
    ----------
    names : iterable of str
        Names of the parameters of a module.
    layerwise : bool, "module" or callable
        True makes each tensor a group, False one group of all, "module" one of the tensors of a
        module (a layer's weight and bias). A callable takes a name and returns its group's.

    Returns
    -------
    dict of str to list of str
        Names of the tensors of each group, groups in the order of their first tensors.
    """
    if layerwise == "module":
        group_name = _module_of
    elif callable(layerwise):
        group_name = layerwise
    else:
        group_name = str if layerwise else _all
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(group_name(name), []).append(name)
    return groups


def _module_of(name):
    return name.rpartition(".")[0] or name


def _all(name):
    return "all"
