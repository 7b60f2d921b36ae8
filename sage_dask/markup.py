"""HTML that is made of elements, so that whatever is only text is escaped.

Ids, names, notes and messages come from users and their data.  Text becomes part
of a page only through ``element``, which escapes everything that it did not make.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias


class Html(str):
    """Markup that ``element`` made."""

    __slots__ = ()


Child: TypeAlias = "str | Html | Iterable[Html]"


def element(tag: str, *children: Child, **attributes: str | bool) -> Html:
    """Return an element.

    Args:
        tag: Its name.
        children: What it contains; text is escaped, elements are put in as they are.
        attributes: By name, with ``_`` for ``-`` and a last ``_`` dropped (``class_``); empty ones
            and those that are False are left out.

    >>> element("td", "<b>", class_="number", data_label="Rate")
    '<td class="number" data-label="Rate">&lt;b&gt;</td>'
    """
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for name, value in attributes.items()
        if value
    )
    return Html(f"<{tag}{said}>{joined(*children)}</{tag}>")


def joined(*children: Child) -> Html:
    """Return children one after the other, text escaped."""
    return Html("".join(map(_markup, children)))


def _markup(child: Child) -> str:
    if isinstance(child, Html):
        return child
    return html.escape(child) if isinstance(child, str) else joined(*child)
