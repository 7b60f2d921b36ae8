"""What became of a record, as the run knows it, and as bytes of a journal's entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sage_dask.journal import codec
from sage_dask.journal.entries import Entry, Memo
from sage_dask.journal.store import CorruptJournalError
from sage_dask.record import Failure, Position, Record


@dataclass(frozen=True, slots=True)
class Row:
    """One record that was read, and everything that came of it."""

    seq: int
    """Its place in the order of reading, from 0."""
    id: str | None
    """None for a row of the input that never became a record."""
    digest: bytes
    """Of the record as it was read; empty where there was none."""
    outputs: Sequence[tuple[str, Record]] = ()
    """Ids and records that it became, in their order."""
    failures: Sequence[Failure] = ()
    num_filtered: int = 0

    @property
    def is_failed(self) -> bool:
        """Whether it, or anything that it became, failed."""
        return bool(self.failures)

    @property
    def num_expanded(self) -> int:
        """Records gained by expansions: one that became three adds two."""
        return max(0, len(self.outputs) + len(self.failures) + self.num_filtered - 1)


def pack(row: Row) -> Entry:
    """Return a row as an entry.

    Raises:
        ValueError: A record holds what can not be kept; the message names record and field.
    """
    try:
        body = codec.encode(
            [
                [[record_id, record] for record_id, record in row.outputs],
                [_failure_parts(failure) for failure in row.failures],
                row.num_filtered,
            ]
        )
    except ValueError:
        _name_culprit(row)
        raise
    return Entry(row.seq, row.id, row.digest, row.is_failed, body)


def unpack(entry: Entry) -> Row:
    """Return the row of an entry.

    Raises:
        CorruptJournalError: Its body is not from ``pack``.
    """
    try:
        outputs, failures, num_filtered = codec.decode(entry.body)
        return Row(
            entry.seq,
            entry.id,
            entry.digest,
            [(record_id, record) for record_id, record in outputs],
            [_failure(*parts) for parts in failures],
            num_filtered,
        )
    except (TypeError, ValueError) as error:
        raise CorruptJournalError(
            f"journal: entry {entry.seq} ({entry.id!r}) can not be understood ({error}); it was "
            "not written by this version of sage_dask"
        ) from error


def pack_memo(stage: str, row: Row) -> Memo:
    """Return what the stages up to one made of a record, as a memo.

    Raises:
        ValueError: A record holds what can not be kept; the message names record and field.
    """
    return Memo(stage, pack(row))


def unpack_memo(memo: Memo) -> tuple[str, Row]:
    """Return the name of the stage and the row of a memo.

    Raises:
        CorruptJournalError: Its body is not from ``pack_memo``.
    """
    return memo.stage, unpack(memo.entry)


def _failure_parts(failure: Failure) -> list[Any]:
    return [
        failure.id,
        failure.stage,
        failure.error,
        failure.message,
        failure.attempts,
        failure.root,
        failure.record,
        failure.position and list(failure.position),
    ]


def _failure(*parts: Any) -> Failure:
    record_id, stage, error, message, attempts, root, record, position = parts
    position = position and Position(*position)
    return Failure(record_id, stage, error, message, attempts, root, record, position)


def _name_culprit(row: Row) -> None:
    """Raise ``ValueError`` for the first record that can not be kept by itself."""
    records = [*row.outputs, *((failure.id, failure.record) for failure in row.failures)]
    for record_id, record in records:
        try:
            codec.encode(record)
        except ValueError as error:
            raise ValueError(f"record {record_id!r}: {error}") from error
