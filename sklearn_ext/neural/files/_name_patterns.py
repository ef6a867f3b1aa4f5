"""Regular expressions for names of layers, matched in bounded time.

Such an expression may come from a file. Python's own matching tries alternatives one after the
other, which can take exponential time. :func:`matches_name` follows all alternatives at once: it
computes the set of positions at which each part of an expression can end.
"""

import re
from collections.abc import Iterable
from typing import Any

_parser: Any = re._parser  # type: ignore[attr-defined]
_op: Any = re._constants  # type: ignore[attr-defined]
_REPEATS = (_op.MAX_REPEAT, _op.MIN_REPEAT)
_LONGEST_PATTERN = 1_000_000


def matches_name(pattern: str, name: str) -> bool:
    """Return whether a regular expression matches a whole name.

    Parameters
    ----------
    pattern : str
        A regular expression without back-references, conditions, and atomic groups.
    name : str

    Raises
    ------
    ValueError
        If `pattern` is not a regular expression, or contains an unsupported construct.

    Examples
    --------
    >>> from sklearn_ext.neural.files import matches_name
    >>> matches_name(r".*decoder.*[.](q|v)_proj", "decoder.layers.0.v_proj")
    True
    >>> matches_name("(.+)+!", "encoder_self_attention_output_dense_layer")
    False
    """
    try:
        if len(pattern) > _LONGEST_PATTERN:
            raise ValueError(f"it has more than {_LONGEST_PATTERN} characters")
        parsed = _parser.parse(pattern)
        return len(name) in _Matcher(name, parsed.state.flags).ends(parsed, {0})
    except (re.error, ValueError, OverflowError, RecursionError) as error:
        shown = pattern if len(pattern) <= 80 else f"{pattern[:80]}..."
        raise ValueError(f"{shown!r} must be a regular expression for names: {error}.") from error


class _Matcher:
    """Positions at which the parts of an expression can end in one name."""

    def __init__(self, name: str, flags: int) -> None:
        self.name = name
        self.flags = flags
        self.known: dict[tuple[int, int], frozenset[int]] = {}

    def ends(self, parts: Any, starts: Iterable[int]) -> frozenset[int]:
        """Return the ends of a sequence of parts that begins at one of `starts`."""
        positions = frozenset(starts)
        for part in parts:
            positions = frozenset().union(*(self._ends_of_part(part, k) for k in positions))
        return positions

    def _ends_of_part(self, part: Any, start: int) -> frozenset[int]:
        key = id(part), start  # a part is evaluated once for each start, however deep it lies
        if key not in self.known:
            self.known[key] = frozenset(self._evaluated(part[0], part[1], start))
        return self.known[key]

    def _evaluated(self, op: Any, argument: Any, start: int) -> Iterable[int]:
        if op in _REPEATS:
            least, most, parts = argument
            return self._repeated(least, most, parts, start)
        if op is _op.BRANCH:
            return frozenset().union(*(self.ends(branch, {start}) for branch in argument[1]))
        if op is _op.SUBPATTERN:
            _, added, removed, parts = argument
            if added or removed:
                raise ValueError("flags inside a group are not supported")
            return self.ends(parts, {start})
        if op in (_op.ASSERT, _op.ASSERT_NOT):
            direction, parts = argument
            holds = self._holds(direction, parts, start)
            return {start} if holds == (op is _op.ASSERT) else ()
        if op is _op.AT:
            return {start} if self._is_at(argument, start) else ()
        if op in (_op.LITERAL, _op.NOT_LITERAL, _op.ANY, _op.IN):
            fits = start < len(self.name) and self._fits(op, argument, self.name[start])
            return {start + 1} if fits else ()
        raise ValueError(f"{str(op).lower()} is not supported")

    def _repeated(self, least: int, most: int, parts: Any, start: int) -> Iterable[int]:
        reached: set[int] = set()
        current, count = frozenset({start}), 0
        while current and count <= most:
            if count >= least:
                if current <= reached:
                    break  # further repetitions lead nowhere new
                reached |= current
            following = self.ends(parts, current)
            # Once a repetition leaves the set of positions unchanged, all further ones do, too.
            count = max(count + 1, least) if following == current else count + 1
            current = following
        return reached

    def _holds(self, direction: int, parts: Any, start: int) -> bool:
        if direction > 0:
            return bool(self.ends(parts, {start}))
        least, most = parts.getwidth()
        if least != most:
            raise ValueError("a look-behind must have a fixed width")
        return start >= least and start in self.ends(parts, {start - least})

    def _is_at(self, where: Any, start: int) -> bool:
        if where in (_op.AT_BEGINNING, _op.AT_BEGINNING_STRING):
            return start == 0
        if where in (_op.AT_END, _op.AT_END_STRING):
            return start == len(self.name)
        around = self.name[max(start - 1, 0) : start], self.name[start : start + 1]
        is_boundary = _is_word(around[0]) != _is_word(around[1])
        return is_boundary == (where is _op.AT_BOUNDARY)

    def _fits(self, op: Any, argument: Any, letter: str) -> bool:
        versions = {letter}
        if self.flags & re.IGNORECASE:
            versions |= {letter.lower(), letter.upper()}
        if op is _op.ANY:
            return letter != "\n" or bool(self.flags & re.DOTALL)
        if op is _op.LITERAL:
            return any(ord(version) == argument for version in versions if len(version) == 1)
        if op is _op.NOT_LITERAL:
            return not self._fits(_op.LITERAL, argument, letter)
        negated = argument[0][0] is _op.NEGATE
        members = argument[1:] if negated else argument
        found = any(_is_member(version, *member) for version in versions for member in members)
        return found != negated


def _is_member(letter: str, op: Any, argument: Any) -> bool:
    if op is _op.LITERAL:
        return ord(letter[0]) == argument
    if op is _op.RANGE:
        return argument[0] <= ord(letter[0]) <= argument[1]
    kinds = {
        _op.CATEGORY_DIGIT: str.isdigit,
        _op.CATEGORY_SPACE: str.isspace,
        _op.CATEGORY_WORD: _is_word,
    }
    if argument in kinds:
        return kinds[argument](letter)
    opposites = {
        _op.CATEGORY_NOT_DIGIT: _op.CATEGORY_DIGIT,
        _op.CATEGORY_NOT_SPACE: _op.CATEGORY_SPACE,
        _op.CATEGORY_NOT_WORD: _op.CATEGORY_WORD,
    }
    return not kinds[opposites[argument]](letter)


def _is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"
