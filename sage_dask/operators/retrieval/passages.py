"""The passages of an index, on disk: one JSON line each, found by row.

Plain lines need no schema, so that passages may carry any metadata, differing
from one to the next, and a person can read the file.  Beside it lies where each
line begins; both are memory-mapped, so opening costs nothing and reading a row
touches that row only.
"""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

# A passage has an "id", a "text" and whatever else it was stored with.
Passage: TypeAlias = dict[str, Any]

LINES = "passages.jsonl"
OFFSETS = "passages.offsets.npy"


def encode_passage(passage: Passage) -> bytes:
    """Write a passage as it stands in the file, newline included.

    Raises:
        TypeError: It holds something that JSON has no form for.
        ValueError: It holds text that UTF-8 has no form for, or itself.
    """
    return json.dumps(passage, ensure_ascii=False).encode() + b"\n"


class PassageWriter:
    """Append passages to a new file in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / LINES).open("wb")
        self._offsets = array("q", [0])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def add(self, lines: Sequence[bytes]) -> None:
        """Append passages that ``encode_passage`` wrote."""
        for line in lines:
            self._offsets.append(self._offsets[-1] + len(line))
        self._file.writelines(lines)

    def close(self) -> None:
        """Write what is buffered, and where each line begins."""
        self._file.close()
        np.save(self._folder / OFFSETS, np.asarray(self._offsets, dtype=np.int64))

    def abort(self) -> None:
        """Close the file without finishing it."""
        self._file.close()


class PassageStore(Sequence[Passage]):
    """Read passages by row; safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._offsets = np.load(folder / OFFSETS, mmap_mode="r")
        with (folder / LINES).open("rb") as file:
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, row: Any) -> Any:
        """Return a fresh copy of the passage at ``row``, from 0."""
        if not 0 <= row < len(self):
            raise IndexError(f"passage row {row} is outside 0..{len(self) - 1}")
        start, end = self._offsets[row], self._offsets[row + 1]
        return json.loads(self._lines[start:end])

    def __iter__(self) -> Iterator[Passage]:
        return (self[row] for row in range(len(self)))
