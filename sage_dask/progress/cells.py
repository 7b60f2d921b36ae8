"""Cells and rows of a width that does not depend on what is in them, so that no column jumps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.text import Text

_GAP = "  "

DIM = "dim"


class Column(NamedTuple):
    """One column."""

    title: str
    width: int
    """In the cells of a terminal; a letter of some scripts takes two."""
    is_left: bool = False
    """Whether what is in it begins at its left end; numbers end at its right."""


# Text, and the style that rich gives it; empty for none.
Cell: TypeAlias = tuple[str, str]


def fit(text: str, width: int, *, is_left: bool = True) -> str:
    """Return a text padded, or cut with an ellipsis, to exactly so many cells."""
    size = len(text) if text.isascii() else cell_len(text)
    if size > width:
        return set_cell_size(text, width - 1) + "…" if width > 0 else ""
    padding = " " * (width - size)
    return text + padding if is_left else padding + text


def row(columns: Sequence[Column], cells: Sequence[Cell]) -> Text:
    """Return a row."""
    line = Text(no_wrap=True, overflow="crop", end="")
    for number, (column, (text, style)) in enumerate(zip(columns, cells, strict=True)):
        line.append(_GAP if number else "")
        line.append(fit(text, column.width, is_left=column.is_left), style or None)
    line.rstrip()
    return line


def header(columns: Sequence[Column]) -> Text:
    """Return the row of the titles."""
    return row(columns, [(column.title, DIM) for column in columns])


def words(text: str, width: int, style: str = "") -> Text:
    """Return a line of words, cut where the screen ends."""
    if cell_len(text) > width:
        text = fit(text, width)
    return Text(text, style, no_wrap=True, overflow="crop", end="")


def total_width(columns: Sequence[Column]) -> int:
    """Return how many cells a row takes."""
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def bar(share: float, width: int) -> str:
    """Return a bar that is filled so far; it reads without colours, too.

    >>> bar(0.5, 8)
    '━━━━────'
    """
    filled = int(min(max(share, 0.0), 1.0) * width)
    return "━" * filled + "─" * (width - filled)
