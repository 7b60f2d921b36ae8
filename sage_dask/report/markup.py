"""What the pages of reports are made of: tables, sections and colours, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sage_dask.markup import Html, element, joined
from sage_dask.report.table import INDENT, Table


def table_element(table: Table, swatches: Mapping[str, int] | None = None) -> Html:
    """Return a table that scrolls by itself where it is too wide; nothing where it has no rows.

    Args:
        table: Its first column names the rows.
        swatches: Number of the colour that stands before a row, by the row's name.
    """
    if not table.rows:
        return Html("")
    head = [_cell("th", name, table, number) for number, name in enumerate(table.columns)]
    body = [_row(row, table, swatches or {}) for row in table.rows]
    inner = joined(element("thead", element("tr", *head)), element("tbody", *body))
    note = element("p", table.note, class_="note") if table.note else Html("")
    return joined(element("div", element("table", inner), class_="wide"), note)


def section(title: str, *content: str) -> Html:
    """Return a section under its heading; nothing where it has no content."""
    inside = joined(*content)
    return element("section", element("h2", title), inside) if inside else Html("")


def swatch(number: int) -> Html:
    """Return a small square in one of the colours of the style sheet."""
    return element("i", class_=f"swatch c{number}")


def _row(row: Sequence[str | None], table: Table, swatches: Mapping[str, int]) -> Html:
    name = row[0] or ""
    mark = swatch(swatches[name]) if name in swatches else Html("")
    is_sub_part = name.startswith(INDENT)
    first = element("td", mark, name.strip(), class_="words sub" if is_sub_part else "words")
    rest = [_cell("td", cell, table, number) for number, cell in enumerate(row) if number]
    return element("tr", first, *rest, class_="total" if name == "total" else "part")


def _cell(tag: str, cell: str | None, table: Table, number: int) -> Html:
    kind = "words" if number in table.words else "amount"
    if cell is None:
        return element(tag, "not measured", class_=f"{kind} none")
    return element(tag, cell, class_=kind)
