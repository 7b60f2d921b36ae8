"""What became of each record of a batch that is back, as rows of a journal."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

from sage_dask.admitted import Admitted
from sage_dask.errors import RunError
from sage_dask.intake import Places
from sage_dask.journal.codec import encode
from sage_dask.journal.entries import Entry
from sage_dask.journal.rows import Row, pack
from sage_dask.plan import WRITE
from sage_dask.record import Batch, Failure, Record


def settled(batch: Batch, admitted: Admitted) -> list[Entry]:
    """Return what a journal keeps of a batch: one entry for each row of the input.

    Args:
        batch: Back.  Records that have no form in a journal are failed in it, and all of its
            failures get the records as they were read.
        admitted: What set out.
    """
    batch.failures = admitted.with_inputs(batch.failures)
    try:
        return [pack(row) for row in _rows(batch, admitted)]
    except ValueError:
        batch.failures += admitted.with_inputs(_fail_formless(batch))
        return [pack_whatever(row) for row in _rows(batch, admitted)]


def pack_whatever(row: Row) -> Entry:
    """Pack a row whose outputs have a form, whatever the inputs of its failures are.

    Of those that have none, the journal keeps what type each field is of.
    """
    try:
        return pack(row)
    except ValueError:
        return pack(replace(row, failures=[_with_plain_input(each) for each in row.failures]))


def rows_of(batch: Batch, places: Places) -> list[Row]:
    """Return one row for each record that set out, with what the batch says of it.

    Raises:
        RunError: An id is both a record's and a part's.
    """
    if ambiguous := batch.roots.keys() & set(places.ids):
        # Nobody could tell whose it is, and one of the two records would be lost.
        raise RunError(
            f"a record of the input and a part of another one both have the id "
            f"{min(ambiguous)!r}; parts are called after their record, as in 'a/0', so give the "
            "input other ids"
        )
    outputs: dict[str, list[tuple[str, Record]]] = defaultdict(list)
    failures: dict[str, list[Failure]] = defaultdict(list)
    for record_id, record in zip(batch.ids, batch.records, strict=True):
        outputs[batch.roots.get(record_id, record_id)].append((record_id, record))
    for failure in batch.failures:
        failures[failure.root or failure.id].append(failure)
    filtered = Counter(batch.filtered)
    return [
        Row(seq, record_id, digest, outputs[record_id], failures[record_id], filtered[record_id])
        for record_id, seq, digest in zip(places.ids, places.seqs, places.digests, strict=True)
    ]


def _rows(batch: Batch, admitted: Admitted) -> list[Row]:
    places = admitted.places
    refused = zip(places.refused_seqs, places.refused_ids, places.refused_digests, strict=True)
    return rows_of(batch, places) + [
        Row(*known, (), (failure,))
        for known, failure in zip(refused, admitted.failures, strict=True)
    ]


def _fail_formless(batch: Batch) -> list[Failure]:
    """Take records out of a batch that a journal can not keep, and return their failures."""
    faults = {}
    for place, record in enumerate(batch.records):
        try:
            encode(record)
        except ValueError as error:
            faults[place] = str(error)
    if not faults:
        return []
    failures = [
        Failure(
            batch.ids[place], WRITE, "ValueError", fault, root=batch.roots.get(batch.ids[place])
        )
        for place, fault in faults.items()
    ]
    kept = [place for place in range(len(batch)) if place not in faults]
    batch.ids = [batch.ids[place] for place in kept]
    batch.records = [batch.records[place] for place in kept]
    return failures


def _with_plain_input(failure: Failure) -> Failure:
    """Return a failure whose record shows of each field that has no form what type it is of."""
    shown = {name: _shown(value) for name, value in (failure.record or {}).items()}
    return replace(failure, record=shown)


def _shown(value: object) -> object:
    try:
        encode(value)
    except ValueError:
        return f"<{type(value).__name__}, not kept>"
    return value
