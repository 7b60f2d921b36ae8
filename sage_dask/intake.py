"""What a batch was made of: the records as they were read, and their places in the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sage_dask.record import Batch, Record


@dataclass(slots=True)
class Places:
    """Where the records of a batch stand in the input, and how to know them again.

    A run without a journal needs none of it, and its lists are empty.
    """

    ids: Sequence[str] = ()
    """Of the records that set out."""
    seqs: Sequence[int] = ()
    """Their places in the order of reading, from 0."""
    digests: Sequence[bytes] = ()
    refused_ids: Sequence[str | None] = ()
    """Of the rows that were refused as they were read; None where the id is another's, or none."""
    refused_seqs: Sequence[int] = ()
    """Their places."""
    refused_digests: Sequence[bytes] = ()
    """Of those that are records for all that, such as ones of an id that was read before."""


@dataclass(slots=True)
class Intake:
    """A batch as it is read."""

    batch: Batch
    places: Places
    inputs: Sequence[Record] | None = None
    """The records as they were read, where the batch holds what became of them since."""
