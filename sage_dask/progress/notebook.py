"""The table in a notebook: one output of the cell, which is replaced as the runs go on."""

from __future__ import annotations

import html
from typing import Any

from sage_dask.progress.overview import Overview
from sage_dask.progress.table import table

# As wide as a page, and as long as it takes.
_WIDTH, _HEIGHT = 118, 200


class Notebook:
    """A cell of a notebook."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = ""

    def open(self) -> None:
        """Add an output to the cell that runs now."""
        from IPython.display import display

        self._shown = ""
        self._handle = display(_output(""), raw=True, display_id=True)

    def draw(self, overview: Overview) -> None:
        """Replace the output, where it changed."""
        text = "\n".join(line.plain for line in table(overview, _WIDTH, _HEIGHT))
        if text != self._shown:
            self._handle.update(_output(text), raw=True)
            self._shown = text

    def close(self) -> None:
        """Leave the output as it is."""


def _output(text: str) -> dict[str, str]:
    """Return a text in the forms that notebooks and their readers show."""
    style = "line-height: 1.25; overflow-x: auto; white-space: pre"
    return {"text/plain": text, "text/html": f'<pre style="{style}">{html.escape(text)}</pre>'}
