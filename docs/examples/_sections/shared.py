"""Tables and timing, shared by the sections of the quick start."""

import time
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeAlias, TypeVar

Cell: TypeAlias = str | int | float
Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def show(title: str, heads: list[str], rows: Sequence[Sequence[Cell]]) -> None:
    """Print a table whose first column is text."""
    cells = [heads, *([format_cell(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for name, *numbers in cells:
        aligned = [n.rjust(width) for n, width in zip(numbers, widths[1:], strict=True)]
        print("   ".join([name.ljust(widths[0]), *aligned]))


def format_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"


def timed(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> tuple[Result, float]:
    """Call a function; return its result and the time it took in seconds."""
    start = time.perf_counter()
    result = function(*args, **kwargs)
    return result, time.perf_counter() - start
