"""What the sections of the quick start share: tables, and timing."""

import time


def show(title, heads, rows):
    """Print a table; the first column is text."""
    cells = [heads, *([format_cell(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for name, *numbers in cells:
        aligned = [n.rjust(width) for n, width in zip(numbers, widths[1:], strict=True)]
        print("   ".join([name.ljust(widths[0]), *aligned]))


def format_cell(cell):
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"


def timed(function, *args, **kwargs):
    """Call a function; return its result and the seconds that it took."""
    start = time.perf_counter()
    result = function(*args, **kwargs)
    return result, time.perf_counter() - start
