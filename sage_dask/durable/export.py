"""The output of a run as an export of its journal: whole, in the order of reading, and checked.

Whoever sees the files sees all of them as the journal has it.  Should a crash
come in between, the next start exports again, and gets the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sage_dask import failpoint
from sage_dask.durable.run_folder import NUM_ROWS, PUBLISHED
from sage_dask.durable.settlement import pack_whatever
from sage_dask.events import RecordsRefused, event_line
from sage_dask.journal.entries import Entry, Group
from sage_dask.journal.journal import Journal
from sage_dask.journal.rows import unpack
from sage_dask.record import Failure, Record, SourceItem
from sage_dask.stage import Sink, Source

# Rows that are in memory at once.
_CHUNK = 1000
_CHUNK_BYTES = 8 << 20
_HASH_BYTES = 1 << 20


def publish(
    journal: Journal,
    source: Source,
    sink: Sink,
    facts: Mapping[str, str],
    tell: Callable[[RecordsRefused], None],
) -> None:
    """Write the output of a run, and note what it is; nothing where it is there already.

    Args:
        journal: Holds every row of the input.
        source: Read again for the inputs of records that have no form in the output.
        sink: Not open.
        facts: Committed once the output is published.
        tell: Told of records that have no form in the output, before it is published.

    Raises:
        SinkError: The output can not be written; nothing is lost, and it may be tried again.
        JournalError: The journal can not be read or written.
    """
    if is_published(journal, sink):
        journal.commit(Group(facts=facts))
        return
    sink.open()
    try:
        num_rows, refused = _write(journal, sink)
        if refused:
            # They fail after all.  From the start again, so that they stand in their places.
            tell(_fail(journal, source, refused))
            sink.abort()
            sink.open()
            num_rows, _ = _write(journal, sink)
        failpoint.reach("export-end")
        sink.close()
    except BaseException as error:
        try:
            sink.abort()
        except Exception as second:
            # It must not hide what went wrong first.
            error.add_note(f"and the output could not be left in order: {second}")
        raise
    failpoint.reach("published")
    known = {NUM_ROWS: str(num_rows), PUBLISHED: _fingerprint(sink)}
    journal.commit(Group(facts={**facts, **known}))


def is_published(journal: Journal, sink: Sink) -> bool:
    """Return whether the files of the output are those that were published, to the byte."""
    known = journal.store.facts().get(PUBLISHED)
    return bool(known and sink.files() and known == _fingerprint(sink))


def _write(journal: Journal, sink: Sink) -> tuple[int, dict[int, list[Failure]]]:
    """Write all rows.

    Returns:
        How many were written, and by place the failures of those that have no form in the output.
    """
    num_rows = 0
    refused: dict[int, list[Failure]] = {}
    for entries in chunks(journal.store.entries()):
        failpoint.reach("export")
        chunk = [unpack(entry) for entry in entries]
        outputs = [output for row in chunk for output in row.outputs]
        unwritable = sink.write([each for each, _ in outputs], [record for _, record in outputs])
        sink.write_failures([failure for row in chunk for failure in row.failures])
        num_rows += len(outputs) - len(unwritable)
        if unwritable:
            places = {output_id: row.seq for row in chunk for output_id, _ in row.outputs}
            for failure in unwritable:
                refused.setdefault(places[failure.id], []).append(failure)
    return num_rows, refused


def chunks(entries: Iterable[Entry]) -> Iterator[Sequence[Entry]]:
    """Yield entries by the thousand, or fewer where they are large."""
    chunk: list[Entry] = []
    num_bytes = 0
    for entry in entries:
        chunk.append(entry)
        num_bytes += len(entry.body)
        if len(chunk) == _CHUNK or num_bytes >= _CHUNK_BYTES:
            yield chunk
            chunk, num_bytes = [], 0
    if chunk:
        yield chunk


def _fail(journal: Journal, source: Source, refused: dict[int, list[Failure]]) -> RecordsRefused:
    """Have rows fail in the journal that have no form in the output."""
    inputs = _inputs(source, refused)
    entries = []
    kinds: Counter[str] = Counter()
    for entry in journal.store.entries():
        if entry.seq not in refused:
            continue
        row = unpack(entry)
        failures = [
            replace(
                failure,
                record=inputs.get(row.seq),
                root=None if failure.id == row.id else row.id,
            )
            for failure in refused[row.seq]
        ]
        out = {failure.id for failure in failures}
        outputs = [output for output in row.outputs if output[0] not in out]
        entries.append(
            pack_whatever(replace(row, outputs=outputs, failures=[*row.failures, *failures]))
        )
        kinds.update(f"{failure.stage}: {failure.error}" for failure in failures)
    event = RecordsRefused(num_refused=kinds.total(), failures=dict(kinds))
    journal.forget(list(refused), Group(entries=entries, events=[event_line(event)]))
    return event


def _inputs(source: Source, places: Iterable[int]) -> dict[int, Record]:
    """Return the records that stand at some places of an input."""
    wanted = set(places)
    found: dict[int, Record] = {}
    for seq, item in enumerate(source.read()):
        if seq in wanted and isinstance(item, SourceItem):
            found[seq] = item.record
        if len(found) == len(wanted):
            break
    return found


def _fingerprint(sink: Sink) -> str:
    """Return name, size and SHA-256 of each file of the output; None for one that is not there."""
    return json.dumps({str(path): checksum(path) for path in sink.files()}, sort_keys=True)


def checksum(path: Path) -> tuple[int, str] | None:
    """Return size and SHA-256 of a file; None if it is not there."""
    if not path.is_file():
        return None
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BYTES):
            hashed.update(block)
        return file.tell(), hashed.hexdigest()
