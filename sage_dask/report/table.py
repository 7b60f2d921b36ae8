"""A table before it has a form: cells as text, and None where nothing was measured."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

NOT_MEASURED = "-"

# A name that begins so is a part of the one above it.
INDENT = "  "


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under their columns."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | None]]
    words: Collection[int] = (0,)
    """Numbers of the columns that hold words, set left; all others hold amounts, set right."""
    note: str = ""
    """What must be known to read it."""


def text_of(table: Table) -> Iterator[str]:
    """Yield a table line by line, its columns aligned; what was not measured is a dash."""
    rows = [[NOT_MEASURED if cell is None else cell for cell in row] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(table.columns, *rows, strict=True)]
    yield table.title
    for row in (table.columns, *rows):
        cells = [
            f"{cell:<{width}}" if number in table.words else f"{cell:>{width}}"
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"  {'   '.join(cells)}".rstrip()
    if table.note:
        yield f"  {table.note}"
