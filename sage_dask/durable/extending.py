"""Where the records that are done stand in an input that has grown."""

from __future__ import annotations

from collections.abc import Iterable

from sage_dask.errors import listed
from sage_dask.finished import InputChangedError
from sage_dask.journal.entries import Mark
from sage_dask.record import SourceItem
from sage_dask.stage import Source

_SHOWN = 5


def new_places(source: Source, marks: Iterable[Mark]) -> list[tuple[int, int]]:
    """Return the old and the new place of each record that is done, found by its id.

    Takes memory for all ids that are done: an input is extended now and then, by hand.

    Args:
        source: The input as it is now.
        marks: What is done.  Rows that never became records keep no place: they are read again.

    Raises:
        InputChangedError: Something that is done is not in the input any more.
    """
    missing = {mark.id: mark.seq for mark in marks if mark.id is not None}
    places = []
    for seq, item in enumerate(source.read()):
        if isinstance(item, SourceItem) and item.id in missing:
            places.append((missing.pop(item.id), seq))
    if missing:
        shown = sorted(missing, key=missing.__getitem__)[:_SHOWN]
        raise InputChangedError(
            f"input {source.name!r} was to be extended, and {len(missing):,} records that are done "
            f"are not in it any more, such as {listed(shown)}; put them back, or give another "
            "run_dir"
        )
    return places
