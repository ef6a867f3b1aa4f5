"""Matching the names of stored tensors with those of a network."""

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import nn

from ._sources import shortened

KeyMap = Mapping[str, str | None] | Callable[[str], str | None]

# Prefixes that wrappers add to all names of a network: data parallelism and weight averaging,
# torch.compile, and training frameworks.
_WRAPPERS = ("module.", "_orig_mod.", "model.")
_COMPILED = "_orig_mod."
# Tensors of wrappers that do not belong to the network.
_OF_WRAPPERS = {"n_averaged"}


def names_of_tensors(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return all names of each parameter and stored buffer, by its first name.

    Tied parameters are one parameter with several names.
    """
    names: dict[int, tuple[str, ...]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.Tensor):
            names[id(tensor)] = (*names.get(id(tensor), ()), name)
    return {first: (first, *others) for first, *others in names.values()}


class RenamedTensors(Mapping[str, torch.Tensor]):
    """Tensors under other names, read on access.

    Parameters
    ----------
    tensors : mapping of str to tensor
    stored : mapping of str to str
        For each new name, the name in `tensors`.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], stored: Mapping[str, str]) -> None:
        self.tensors = tensors
        self.stored = stored

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[self.stored[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


def matched_tensors(
    tensors: Mapping[str, torch.Tensor],
    own: Mapping[str, torch.Tensor],
    label: str,
    *,
    aliases: Mapping[str, Sequence[str]] | None = None,
    key_map: KeyMap | None = None,
    replaceable: Sequence[str] = (),
) -> Mapping[str, torch.Tensor]:
    """Return stored tensors under the names of a network, without reading their values.

    Prefixes that wrappers add, such as "module.", are removed if the names match without them. Tied
    tensors may be stored under any of their names.

    Parameters
    ----------
    tensors : mapping of str to tensor
    own : mapping of str to tensor
        Tensors of the network, each under one name.
    label : str
        Name of the stored tensors in error messages.
    aliases : mapping of str to sequence of str or None, default=None
        All names of each tensor of the network. None means that each has only one.
    key_map : mapping, callable or None, default=None
        New name for a stored name, or None to leave the tensor out. A mapping keeps the names that
        it does not contain.
    replaceable : sequence of str, default=()
        Prefixes of tensors that may be missing, unknown or of other shapes, such as those of a new
        head. These tensors are left out if they do not fit.

    Returns
    -------
    mapping of str to tensor
        One tensor for each name in `own`, except those that are replaceable.

    Raises
    ------
    ValueError
        If a tensor is missing, unknown or of another shape, or if only one of a stored tensor and
        its counterpart is floating-point. The message names up to five tensors of each kind.
    """
    names_of = {name: tuple(aliases[name]) if aliases else (name,) for name in own}
    stored = _mapped(tensors, key_map, label)
    new = tuple(replaceable)
    matches = [
        _Match(available, names, new)
        for available in _unwrapped(stored)
        for names in _unwrapped_aliases(names_of)
    ]
    best = min(matches, key=lambda match: len(match.missing) + len(match.unknown))
    wrong = [
        f"{name!r} has shape {tuple(tensors[old].shape)}, but the network's has shape "
        f"{tuple(own[name].shape)}"
        for name, old in best.stored.items()
        if tensors[old].shape != own[name].shape and not name.startswith(new)
    ]
    kinds = [
        f"{name!r} has type {tensors[old].dtype}"
        for name, old in best.stored.items()
        if own[name].is_floating_point() != tensors[old].is_floating_point()
    ]
    if best.missing or best.unknown or wrong or kinds:
        raise ValueError(f"{label} does not fit the network. {best.explained(wrong, kinds)}")
    stored = {n: old for n, old in best.stored.items() if tensors[old].shape == own[n].shape}
    return RenamedTensors(tensors, stored)


class _Match:
    """How stored names agree with those of a network.

    Parameters
    ----------
    available : mapping of str to str
        Stored names by the names that they are compared with.
    names_of : mapping of str to sequence of str
        All names of each tensor of the network.
    replaceable : tuple of str
        Prefixes of names that need not agree.
    """

    def __init__(
        self,
        available: Mapping[str, str],
        names_of: Mapping[str, Sequence[str]],
        replaceable: tuple[str, ...],
    ) -> None:
        self.stored: dict[str, str] = {}
        self.missing: list[str] = []
        for own, names in names_of.items():
            found = next((name for name in names if name in available), None)
            if found is not None:
                self.stored[own] = available[found]
            elif not own.startswith(replaceable):
                self.missing.append(names[0])
        known = {name for names in names_of.values() for name in names}
        self.unknown = [
            name
            for name in available
            if name not in known | _OF_WRAPPERS and not name.startswith(replaceable)
        ]

    def explained(self, wrong: list[str], kinds: list[str]) -> str:
        """Return sentences on the names that differ, and on wrong shapes and types."""
        parts = []
        if self.missing:
            parts.append(f"It lacks the tensors {_quoted(self.missing)}.")
        if self.unknown:
            parts.append(f"It has the tensors {_quoted(self.unknown)}, which the network lacks.")
        near = [
            (name, match)
            for name in self.missing[:5]
            for match in difflib.get_close_matches(name, self.unknown, n=1)
        ]
        if near:
            parts.append(f"The nearest match of {near[0][0]!r} is {near[0][1]!r}.")
        if wrong:
            parts.append(f"The tensor {shortened(wrong)}.")
        if kinds:
            parts.append(f"The tensor {shortened(kinds)}, unlike the network's.")
        return " ".join(parts)


def _quoted(names: list[str]) -> str:
    return shortened([repr(name) for name in names])


def _mapped(
    tensors: Mapping[str, torch.Tensor], key_map: KeyMap | None, label: str
) -> dict[str, str]:
    stored: dict[str, str] = {}
    for old in tensors:
        new: str | None = old
        if key_map is not None:
            new = key_map(old) if callable(key_map) else key_map.get(old, old)
        if new is None:
            continue
        if not isinstance(new, str):
            raise ValueError(f"key_map must give a name or None, got {new!r} for {old!r}.")
        if new in stored:
            raise ValueError(
                f"key_map must give different names to the tensors of {label}, got {new!r} for "
                f"{stored[new]!r} and {old!r}."
            )
        stored[new] = old
    return stored


def _unwrapped(names: dict[str, str]) -> Iterator[dict[str, str]]:
    """Yield names as they are, and without each prefix that all of them share."""
    yield names
    # Compiling a part of a network adds the mark of torch.compile in the middle of names.
    plain = {name.replace(_COMPILED, ""): old for name, old in names.items()}
    if plain.keys() != names.keys() and len(plain) == len(names):
        yield from _unwrapped(plain)
        return
    counted = {name: old for name, old in names.items() if name not in _OF_WRAPPERS}
    for prefix in _WRAPPERS:
        if counted and all(name.startswith(prefix) for name in counted):
            yield from _unwrapped({name.removeprefix(prefix): o for name, o in counted.items()})


def _unwrapped_aliases(
    names_of: Mapping[str, tuple[str, ...]],
) -> Iterator[dict[str, tuple[str, ...]]]:
    flat = {name: name for names in names_of.values() for name in names}
    for stripped in _unwrapped(flat):
        new = {old: name for name, old in stripped.items()}
        yield {own: tuple(new.get(name, name) for name in names) for own, names in names_of.items()}
