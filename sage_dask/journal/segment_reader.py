"""Reads a segment group by group, up to what a crash left unfinished.

What a crash leaves is the beginning of a group, or a group whose pages reached the disk
in part and are zeros elsewhere.  Anything else that does not fit is damage, and is
refused by file and line; nothing that was committed is ever dropped to go on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sage_dask.journal.segment_lines import (
    CLOSING,
    HEADER,
    VERSION,
    Stand,
    closing,
    header,
    unseal,
)
from sage_dask.journal.store import CorruptJournalError, JournalError

_BUFFER_BYTES = 1 << 20


class Line(NamedTuple):
    """The fields of one line, and the byte of the file where it begins."""

    offset: int
    fields: list[Any]


def claim(path: Path) -> Stand | None:
    """Return where a segment says that those before it end, or None if it has no header yet.

    Raises:
        JournalError: A newer sage_dask wrote it.
    """
    with path.open("rb") as file:
        fields = unseal(file.readline())
    if fields is None or fields[0] != HEADER:
        return None
    if fields[1] != VERSION:
        raise JournalError(
            f"journal {str(path)!r} has format {fields[1]}, and this sage_dask knows {VERSION}; "
            "install the version that wrote it"
        )
    return Stand(*fields[3:])


def read_groups(
    path: Path, number: int, stand: Stand, end: Stand | None
) -> Iterator[tuple[Stand, list[Line]]]:
    """Yield the stand after a segment's header and after each of its groups, with their lines.

    Args:
        path: The file.
        number: Which segment it is.
        stand: Of the journal before this segment.
        end: Where the segment after this one says that it ends.  What follows was written by
            a process that had been followed by another, and is no part of the journal.

    Raises:
        CorruptJournalError: Something that was committed is not what it was.
    """
    pending: list[Line] = []
    offset = 0
    if stand == end:
        return
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        for at, line in enumerate(file, 1):
            fields = unseal(line)
            if fields is None:
                if _is_unfinished(itertools.chain([line], file)):
                    return
                raise damaged(path, at, "is not what was written")
            if at == 1:
                if line != header(number, stand):
                    raise damaged(path, at, _misplaced(fields, number, stand))
                stand = stand.after(line)
                yield stand, []
            elif fields[0] == CLOSING:
                if line != closing(stand, len(pending)):
                    raise damaged(path, at, "closes a group with lines missing or out of order")
                stand = stand.after(line)._replace(num_groups=stand.num_groups + 1)
                yield stand, pending
                pending = []
            else:
                stand = stand.after(line)
                pending.append(Line(offset, fields))
            if not pending and stand == end:
                return
            offset += len(line)


def _is_unfinished(lines: Iterable[bytes]) -> bool:
    """Tell whether lines from the first broken one on are what a crash leaves of a group."""
    for line in lines:
        fields = unseal(line)
        if fields is not None:
            if fields[0] == CLOSING:
                return False
        elif line.endswith(b"\n"):
            # A write that was cut ends without a line end; pages that were lost are zeros.
            if b"\0" not in line:
                return False
        elif unseal(line[:-1] + b"\n") is not None:
            # Only the line end is another byte: nothing was cut here.
            return False
    return True


def _misplaced(fields: list[Any], number: int, stand: Stand) -> str:
    if fields[0] != HEADER:
        return "is not the beginning of a segment"
    if fields[2] != number:
        return f"begins segment {fields[2]}, and {number} is wanted here"
    return (
        f"continues a journal of {fields[3]} groups, and the segments before it hold "
        f"{stand.num_groups}" + (" others" if fields[3] == stand.num_groups else "")
    )


def damaged(path: Path, line: int, what: str) -> CorruptJournalError:
    """Return what to raise for a line that is not what was committed."""
    return CorruptJournalError(
        f"journal {str(path)!r}, line {line} {what}: the file was changed or its disk lost bytes; "
        "restore it from a copy, or start anew in another run_dir"
    )
