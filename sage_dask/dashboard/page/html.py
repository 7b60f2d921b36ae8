"""What panels are made of: headings, bars, chips and tables, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sage_dask.markup import Child, Html, element, joined

# Text of users is shown up to here: a page stays small whatever a message holds.
MOST_CHARS = 400

_SHORT_CHARS = 22


def clipped(text: str, most: int = MOST_CHARS) -> str:
    """Return a text of users, cut where it is long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def is_short(text: str) -> bool:
    """Return whether a text stays on one line wherever it stands."""
    return len(text) <= _SHORT_CHARS


def panel(title: str, *children: Child, aside: str = "") -> Html:
    """Return a panel's content below its heading.

    Args:
        title: The heading.
        children: What it shows.
        aside: Words beside the heading, less loud.
    """
    heading = element("h2", title, element("small", aside) if aside else "")
    return joined(heading, *children)


def bar(share: float, *, kind: str = "", second: float = 0.0) -> Html:
    """Return a bar that is filled to a share.

    Args:
        share: Filled in the colour of the kind, 0.0 to 1.0.
        kind: ``""``, ``"good"``, ``"warn"`` or ``"bad"``.
        second: Filled behind that in the colour for what is bad.
    """
    filled = [element("i", style=f"width:{_percent(share)}", class_=kind)]
    if second:
        filled.append(element("i", style=f"width:{_percent(second)}", class_="bad"))
    return element("span", filled, class_="bar")


def _percent(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.1f}%"


def chip(words: str, kind: str = "") -> Html:
    """Return a few words that stand out, by the kinds of ``bar``."""
    return element("span", words, class_=f"chip {kind}".rstrip())


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    label: str
    is_number: bool = False
    """Aligned by its digits."""
    meaning: str = ""
    """Shown where somebody points at the heading."""
    is_spare: bool = False
    """Left out where the screen is narrow."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table."""

    cells: Sequence[Child]
    note: Child = ""
    """A line below the cells."""
    kind: str = ""
    """Class of the row."""


def table(
    columns: Sequence[Column], rows: Sequence[Row], left_out: int = 0, *, narrow: str = "cards"
) -> Html:
    """Return a table.

    Args:
        columns: Its columns.
        rows: Each with one cell per column.
        left_out: Rows that there are besides; said below.
        narrow: What it is on a narrow screen: ``"cards"`` with a name at each figure, ``"lines"``
            of text, or the ``"table"`` that it is elsewhere.
    """
    headings = [
        element("th", column.label, class_=_class(column), title=column.meaning)
        for column in columns
    ]
    lines = [line for row in rows for line in _lines(columns, row)]
    more = element("p", f"and {left_out:,} more", class_="quiet") if left_out > 0 else ""
    head = element("thead", element("tr", headings))
    body = element("table", head, element("tbody", lines), class_=narrow)
    return joined(body, more)


def _lines(columns: Sequence[Column], row: Row) -> Iterable[Html]:
    cells = [
        # A card names each figure; what has none takes no room there.
        element("td", cell, class_=_class_of_cell(column, cell), data_label=column.label)
        for column, cell in zip(columns, row.cells, strict=True)
    ]
    yield element("tr", cells, class_=row.kind)
    if row.note:
        note = element("td", row.note, colspan=str(len(columns)))
        yield element("tr", note, class_=f"note {row.kind}".rstrip())


def _class(column: Column) -> str:
    said = {"number": column.is_number, "spare": column.is_spare}
    return " ".join(name for name, is_so in said.items() if is_so)


def _class_of_cell(column: Column, cell: Child) -> str:
    said = {"empty": not cell, "short": not isinstance(cell, Html) and is_short(str(cell))}
    return " ".join([_class(column), *(name for name, is_so in said.items() if is_so)]).strip()
