"""The table on a terminal, and what the program prints meanwhile above it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from threading import RLock
from typing import IO, Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sage_dask.progress.overview import Overview
from sage_dask.progress.table import table

# For terminals that know no more.
_PLAINER = str.maketrans({"━": "=", "─": "-", "…": "~", "µ": "u"})


class Terminal:
    """A screen of letters, below which nothing is written.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        # One writes at a time: whoever draws the table, or prints above it.
        self._writing = RLock()
        self._above: list[Above] = []

    def open(self) -> None:
        """Make ready for a table, and have what is printed appear above it."""
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()
        self._above = [
            Above(stream, self)
            for stream in dict.fromkeys((sys.stdout, sys.stderr))
            if stream is not None and stream.isatty()
        ]
        for above in self._above:
            above.take_over()

    def draw(self, overview: Overview) -> None:
        """Draw a table in the place of the one before."""
        if self._live is None:
            return
        size = self._console.size
        # The cursor stands on a line of its own below the table once it is left there.
        lines = table(overview, size.width, size.height - 1)
        text = self._fitting(Text("\n", end="").join(lines))
        text.no_wrap, text.overflow = True, "crop"
        with self._writing:
            self._live.update(text, refresh=True)

    def close(self) -> None:
        """Leave the last table where it is, and give the streams back."""
        for above in self._above:
            above.give_back()
        if self._live is not None:
            with self._writing:
                self._live.stop()
        self._live = None

    def print_above(self, text: str) -> None:
        """Print lines above the table."""
        with self._writing:
            self._console.print(Text.from_ansi(text), soft_wrap=True)

    def _fitting(self, text: Text) -> Text:
        """Return a text in letters that the terminal's encoding has."""
        encoding = self._console.encoding
        if encoding.startswith("utf"):
            return text
        # As long as before, so that styles stay where they are.
        text.plain = text.plain.translate(_PLAINER).encode(encoding, "replace").decode(encoding)
        return text


class _Printer(Protocol):
    """Where lines go that are to stand above the table."""

    def print_above(self, text: str) -> None:
        """Print lines."""
        ...


class Above:
    """Stands in for a stream of a terminal, and prints each whole line above the table.

    Loggers that write to the stream follow it.

    Args:
        stream: ``sys.stdout`` or ``sys.stderr``, as it is.
        printer: Prints.
    """

    def __init__(self, stream: IO[str], printer: _Printer) -> None:
        self._stream = stream
        self._printer = printer
        self._rest = ""
        """A line that is yet without its end."""

    def take_over(self) -> None:
        """Stand in for the stream."""
        _replace(self._stream, self)

    def give_back(self) -> None:
        """Stand in no more; what is still to come of a last line follows by itself."""
        _replace(self, self._stream)
        rest, self._rest = self._rest, ""
        if rest:
            self._printer.print_above(rest)

    def write(self, text: str) -> int:
        """Print the lines that are whole now."""
        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._printer.print_above("\n".join(lines))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write one after the other."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: the table stands where a line without an end would go on."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _replace(old: Any, new: Any) -> None:
    """Put one stream in the place of another wherever this process prints."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is old:
            setattr(sys, name, new)
    for handler in _stream_handlers():
        if handler.stream is old:
            handler.setStream(new)


def _stream_handlers() -> Iterator[logging.StreamHandler[Any]]:
    known = logging.root.manager.loggerDict.copy().values()
    loggers = [logging.root, *(each for each in known if isinstance(each, logging.Logger))]
    for logger in loggers:
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler):
                yield handler
