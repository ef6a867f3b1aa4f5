"""Checks of JSON fields from a file, which may be damaged or written by anyone.

A schema maps the name of each field to a check. A check takes a stored value and the name of its
field, and returns the value as the program uses it, or raises a ValueError that names the field.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from ...utils._typing import Array

Check = Callable[[Any, str], Any]
_LABEL_KINDS = "biufUO"
_SHOWN = 80


def parse_json(stored: str | bytes, source: str) -> Any:
    """Return the value that a JSON text describes.

    Parameters
    ----------
    stored : str or bytes
    source : str
        Name of the text in error messages.

    Raises
    ------
    ValueError
        If the text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(stored)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{source} must contain JSON text: {error}.") from error


def checked_fields(
    stored: Any, schema: Mapping[str, Check], source: str, *, may_lack: Collection[str] = ()
) -> dict[str, Any]:
    """Return the fields of a JSON object after checking each of them.

    Parameters
    ----------
    stored : object
        The object as :func:`parse_json` returns it.
    schema : mapping of str to check
        A check for each allowed field.
    source : str
        Name of the object in error messages.
    may_lack : collection of str, default=()
        Fields that may be missing.

    Raises
    ------
    ValueError
        If a field is missing, unknown or invalid; the message names it.
    """
    if not isinstance(stored, dict):
        raise ValueError(f"{source} must be a JSON object, got {_shown(stored)}.")
    unknown = sorted(stored.keys() - schema.keys())[:5]
    missing = sorted(schema.keys() - set(may_lack) - stored.keys())[:5]
    if unknown or missing:
        raise ValueError(
            f"{source} must have the fields {sorted(schema)}; it lacks {missing} and has the "
            f"unknown fields {unknown}."
        )
    try:
        return {name: schema[name](value, f"{name} in {source}") for name, value in stored.items()}
    except RecursionError as error:
        raise ValueError(f"{source} is nested too deeply.") from error


def text(value: Any, name: str) -> str:
    """Check that a value is a string."""
    return value if isinstance(value, str) else _refuse(value, name, "a string")


def boolean(value: Any, name: str) -> bool:
    """Check that a value is true or false."""
    return value if isinstance(value, bool) else _refuse(value, name, "true or false")


def integer(least: int, most: int = 2**63 - 1) -> Check:
    """Return a check of an integer in a closed interval."""

    def check(value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            _refuse(value, name, f"an integer from {least} to {most}")
        return value

    return check


def number(least: float = -math.inf, *, above: float = -math.inf, finite: bool = True) -> Check:
    """Return a check of a number that is at least `least`, and larger than `above` if finite."""
    bounds = [f">= {least}"] if least > -math.inf else []
    bounds += [f"> {above}"] if above > -math.inf else []
    allowed = " ".join(["a finite number" if finite else "a number", *bounds])

    def check(value: Any, name: str) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            _refuse(value, name, allowed)
        if finite and not (abs(value) < math.inf and value >= least and value > above):
            _refuse(value, name, allowed)
        return value

    return check


def one_of(*values: Any) -> Check:
    """Return a check that a value equals one of the given ones."""

    def check(value: Any, name: str) -> Any:
        found = [own for own in values if type(own) is type(value) and own == value]
        return found[0] if found else _refuse(value, name, f"one of {values}")

    return check


def optional(check: Check) -> Check:
    """Return a check that also allows null."""
    return lambda value, name: None if value is None else check(value, name)


def items(check: Check, length: int | None = None) -> Check:
    """Return a check of a list whose entries pass a check."""

    def check_all(value: Any, name: str) -> list[Any]:
        if not isinstance(value, list) or length not in (None, len(value)):
            _refuse(value, name, "a list" if length is None else f"a list of length {length}")
        return [check(entry, f"entry {k} of {name}") for k, entry in enumerate(value)]

    return check_all


def mapping_of(check: Check) -> Check:
    """Return a check of a JSON object whose values pass a check."""

    def check_all(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            _refuse(value, name, "a JSON object")
        return {key: check(entry, f"{key!r} of {name}") for key, entry in value.items()}

    return check_all


def labels_as_json(values: Array) -> dict[str, Any]:
    """Return class labels as a JSON object that records their type."""
    dtype = "object" if values.dtype.hasobject else values.dtype.str
    return {"dtype": dtype, "values": values.tolist()}


def labels(value: Any, name: str) -> Array:
    """Check class labels that :func:`labels_as_json` wrote, and return them as an array."""
    simple: Check = items(
        lambda entry, name: (
            entry
            if _is_scalar(entry)
            else _refuse(entry, name, "a number, a string, true, false or null")
        )
    )
    stored = checked_fields(value, {"dtype": text, "values": simple}, name)
    try:
        dtype = np.dtype(stored["dtype"])
        if dtype.kind not in _LABEL_KINDS:
            raise TypeError(f"labels of type {dtype} are not supported")
        if dtype.kind == "U" and not all(isinstance(v, str) for v in stored["values"]):
            raise TypeError("some labels are not strings")
        values = np.array(stored["values"], dtype="U" if dtype.kind == "U" else dtype)
        if dtype.kind != "O" and values.tolist() != stored["values"]:
            raise ValueError(f"some labels are not of type {dtype}")
        different = len(set(stored["values"])) == len(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{name} must contain labels and their type: {error}.") from error
    return values if different else _refuse(stored["values"], name, "different labels")


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _refuse(value: Any, name: str, allowed: str) -> Any:
    raise ValueError(f"{name} must be {allowed}, got {_shown(value)}.")


def _shown(value: Any) -> str:
    shown = repr(value) if _is_scalar(value) else f"a {type(value).__name__}"
    if isinstance(value, list) and len(value) < 20 and all(map(_is_scalar, value)):
        shown = repr(value)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
