"""Base class of all reports: a table with one row per model or data set."""

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


class BaseReport:
    """Scores by name: printable as text and HTML, and available as a data frame.

    Parameters
    ----------
    scores : dict of str to dict of str to float
        Scores by the name of the row and the name of the score.
    """

    # Heading and format of each score; None shows all scores in their order, with three digits.
    _columns: dict[str, tuple[str, str]] | None = None

    def __init__(self, scores: Mapping[str, Mapping[str, float]]) -> None:
        self.scores = {str(name): dict(row) for name, row in scores.items()}

    @property
    def names(self) -> list[str]:
        """Names of the scores that at least one row has."""
        found = {name: None for row in self.scores.values() for name in row}
        return [
            name
            for name in (found if self._columns is None else self._columns)
            if any(np.isfinite(row.get(name, np.nan)) for row in self.scores.values())
        ]

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas DataFrame with one row per model or data set.

        Returns
        -------
        pandas.DataFrame
            The index holds the names of the rows, and the columns are the scores.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        import pandas as pd

        return pd.DataFrame.from_dict(self._rows(), orient="index", columns=self.names)

    def _rows(self) -> dict[str, dict[str, float]]:
        """Return the rows of the table."""
        return self.scores

    def _cells(self) -> list[list[str]]:
        """Return the headings and the formatted rows."""
        columns = self._columns
        if columns is None:
            columns = {name: (name, ".3f") for name in self.names}
        chosen = [(name, *columns[name]) for name in self.names]
        cells = [["", *(heading for _, heading, _ in chosen)]]
        for label, row in self._rows().items():
            values = [_formatted(row.get(name, np.nan), form) for name, _, form in chosen]
            cells.append([label, *values])
        return cells

    def __str__(self) -> str:
        cells = self._cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = []
        for label, *values in cells:
            padded = (f"  {v:>{w}}" for v, w in zip(values, widths[1:], strict=True))
            lines.append(f"{label:{widths[0]}}" + "".join(padded))
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head, *body = self._cells()
        top = "".join(f"<th>{escape(heading)}</th>" for heading in head)
        rows = (
            f"<tr><th>{escape(label)}</th>"
            + "".join(f"<td>{escape(value)}</td>" for value in values)
            + "</tr>"
            for label, *values in body
        )
        return f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _formatted(value: float, form: str) -> str:
    if np.isnan(value):
        return "-"
    text = f"{value:{form}}"
    return text.removeprefix("-") if float(text.rstrip("%")) == 0.0 else text  # not "-0.0"
