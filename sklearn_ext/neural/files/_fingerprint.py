"""Fingerprints of nets, functions and data, by which a cache recognizes equal trainings."""

import enum
import functools
import hashlib
import importlib.metadata
import sys
import sysconfig
import types
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from ..._version import __version__
from ._tensors import bytes_of

_LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "skorch")
_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, np.dtype)
# Entries of a class that do not affect its behavior.
_NOT_CODE = {
    "__annotations__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__module__",
    "__qualname__",
    "__static_attributes__",
    "__weakref__",
}
_LIBRARY_FOLDERS = tuple(
    {f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def fingerprint(*values: Any) -> str:
    """Return a hash of code and state.

    Classes and functions of installed libraries count by name and version, those of the user by
    their code, including the values that functions refer to. Arrays and modules count by content.

    Parameters
    ----------
    *values : object
        Anything that consists of plain data, arrays, modules, functions, classes and objects whose
        state can be pickled.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If an object, such as an open file, has no state that can be hashed.

    Examples
    --------
    >>> from torch import nn
    >>> from sklearn_ext.neural.files import fingerprint
    >>> smooth = fingerprint(nn.CrossEntropyLoss(label_smoothing=0.1))
    >>> smooth == fingerprint(nn.CrossEntropyLoss(label_smoothing=0.1))
    True
    >>> smooth == fingerprint(nn.CrossEntropyLoss(label_smoothing=0.2))
    False
    """
    versions = [importlib.metadata.version(name) for name in _LIBRARIES]
    return _Fingerprint().of((sys.version, __version__, versions, values)).hex()


class _Fingerprint:
    """Hashes of the objects that one fingerprint depends on."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[bytes, Any]] = {}  # holds objects, so that ids stay unique
        self.unfinished: list[int] = []

    def of(self, value: Any) -> bytes:
        if isinstance(value, _ATOMS) and not isinstance(value, enum.Enum):
            return _hash("atom", type(value).__name__, repr(value))
        if id(value) in self.known:
            return self.known[id(value)][0]
        if id(value) in self.unfinished:  # the object refers to itself
            return _hash("circle", self.unfinished.index(id(value)))
        self.unfinished.append(id(value))
        try:
            found = _hash(*self._parts(value))
        except (TypeError, AttributeError) as error:
            raise ValueError(
                f"An object of type {type(value).__name__} has no state that can be compared "
                f"between trainings: {error}."
            ) from error
        finally:
            self.unfinished.pop()
        self.known[id(value)] = found, value
        return found

    def _parts(self, value: Any) -> Iterable[Any]:
        if isinstance(value, type):
            return self._parts_of_class(value)
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            return [type(value).__name__, *map(self.of, value)]
        if isinstance(value, (set, frozenset)):
            return ["set", *sorted(map(self.of, value))]
        if isinstance(value, Mapping) and type(value).__module__ in ("builtins", "collections"):
            pairs = sorted(value.items(), key=lambda pair: repr(pair[0]))
            return ["mapping", *(self.of(part) for pair in pairs for part in pair)]
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            return ["array", value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes()]
        if isinstance(value, torch.Tensor) and value.layout == torch.strided:
            stored = bytes_of(value.detach().cpu().contiguous())
            return ["tensor", str(value.dtype), tuple(value.shape), bytes(stored)]
        if isinstance(value, types.FunctionType):
            return self._parts_of_function(value)
        if isinstance(value, types.MethodType):
            return ["method", self.of(value.__func__), self.of(value.__self__)]
        if isinstance(value, (types.BuiltinFunctionType, types.ModuleType, np.ufunc)):
            owner = getattr(value, "__self__", None)
            owner = None if isinstance(owner, types.ModuleType) else owner
            return ["builtin", getattr(value, "__module__", ""), value.__name__, self.of(owner)]
        if isinstance(value, types.CodeType):
            return self._parts_of_code(value)
        if isinstance(value, (staticmethod, classmethod)):
            return ["wrapped", type(value).__name__, self.of(value.__func__)]
        if isinstance(value, (property, functools.cached_property)):
            found = [getattr(value, name, None) for name in ("fget", "fset", "func")]
            return ["property", *map(self.of, found)]
        return self._parts_of_object(value)

    def _parts_of_class(self, cls: type) -> Iterable[Any]:
        name = f"{cls.__module__}.{cls.__qualname__}"
        if _is_library(cls.__module__):
            return ["class", name, _version_of(cls.__module__)]
        own = {
            key: value
            for key, value in vars(cls).items()
            if key not in _NOT_CODE
            and not key.startswith("_abc_")
            and not isinstance(value, (types.GetSetDescriptorType, types.MemberDescriptorType))
        }
        return ["class", name, self.of(own), *map(self.of, cls.__bases__)]

    def _parts_of_function(self, function: types.FunctionType) -> Iterable[Any]:
        name = f"{function.__module__}.{function.__qualname__}"
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
        if _is_library(function.__module__):
            # An inner function has captured arguments of the outer one, which may be the user's.
            state = (function.__defaults__, cells) if "<locals>" in name else None
            return ["function", name, _version_of(function.__module__), self.of(state)]
        code = function.__code__
        names = sorted(_names_in(code) & function.__globals__.keys())
        used = {name: function.__globals__[name] for name in names}
        parts = (code, function.__defaults__, function.__kwdefaults__, cells, used)
        return ["function", name, *map(self.of, parts), self.of(vars(function))]

    def _parts_of_code(self, code: types.CodeType) -> Iterable[Any]:
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        return ["code", code.co_code, *map(self.of, (code.co_consts, *names))]

    def _parts_of_object(self, value: Any) -> Iterable[Any]:
        if isinstance(value, torch.nn.Module):
            # The attributes of a module include its parameters, buffers, children and hooks.
            return ["object", self.of(type(value)), self.of(dict(vars(value)))]
        reduced = value.__reduce_ex__(4)
        if isinstance(reduced, str):  # the name of a global object, such as a cached function
            wrapped = getattr(value, "__wrapped__", None)
            return ["global", self.of(type(value)), reduced, self.of(wrapped)]
        return ["object", *map(self.of, reduced[:5])]


def _hash(*parts: Any) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        stored = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(len(stored).to_bytes(8, "little") + stored)
    return digest.digest()


def _names_in(code: types.CodeType) -> set[str]:
    inner = [const for const in code.co_consts if isinstance(const, types.CodeType)]
    return set(code.co_names).union(*map(_names_in, inner))


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (an empty cell raises)
    except ValueError:
        return False
    return True


@functools.cache
def _is_library(module: str | None) -> bool:
    """Return whether a module belongs to Python or to an installed library."""
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names or top == __name__.partition(".")[0]:
        return True
    file = getattr(sys.modules.get(top), "__file__", None)
    return file is not None and file.startswith(_LIBRARY_FOLDERS)


@functools.cache
def _version_of(module: str) -> str:
    """Return the version of the library of a module; `fingerprint` adds those of `_LIBRARIES`."""
    found = getattr(sys.modules.get(module.partition(".")[0]), "__version__", "")
    return str(found)
