"""Records that can be sent on: one that can not be pickled never leaves its process.

Dask would find that out when the result is fetched, and ask for it again and
again, so that the run waits for ever.
"""

from __future__ import annotations

import pickle as plain
from typing import NoReturn

from distributed.protocol import pickle

from sage_dask.record import Batch, Failure, Record

_PROTOCOL = 5


class _NotPlainError(Exception):
    """A value holds more than Python's own plain types."""


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: object) -> None:
        """Forget the data."""


class _PlainPickler(plain.Pickler):
    """Takes plain values alone, which are sure to be read back: the check costs one pickling."""

    def reducer_override(self, value: object) -> NoReturn:
        raise _NotPlainError(type(value).__name__)


def fail_stranded(batch: Batch, stage: str) -> None:
    """Fail the records of a batch that can not be sent to another process.

    Args:
        batch: Changed in place.
        stage: The stage that the failures are filed under.
    """
    if _fault(batch.records) is None:
        return
    ids, records, batch.ids, batch.records = batch.ids, batch.records, [], []
    for record_id, record in zip(ids, records, strict=True):
        error = _fault(record)
        if error is None:
            batch.ids.append(record_id)
            batch.records.append(record)
        else:
            root = batch.roots.get(record_id)
            message = _message(record, error)
            batch.failures.append(
                Failure(record_id, stage, type(error).__name__, message, root=root)
            )


def _fault(value: object) -> Exception | None:
    """Return what goes wrong when a value is pickled and read back; None where nothing does."""
    try:
        _PlainPickler(_Nowhere(), _PROTOCOL).dump(value)
        return None
    except Exception:
        # Not plain, so it has to be tried; arrays are handed over, not copied.
        buffers: list[object] = []
    try:
        pickled = pickle.dumps(value, buffer_callback=buffers.append)
        pickle.loads(pickled, buffers=buffers)
    except Exception as error:
        return error
    return None


def _message(record: Record, error: Exception) -> str:
    """Say which field is at fault: the first that can not be sent by itself."""
    for name, value in record.items():
        reason = _fault(value)
        if reason is not None:
            return (
                f"field {name!r} ({type(value).__name__}) can not be sent between processes: "
                f"{reason}; leave it out with Select(...), or make it in the stage that needs it"
            )
    return f"the record can not be sent between processes: {error}; keep plain values in it"
