"""A function to send to workers."""

from __future__ import annotations

from distributed import get_worker

from sage_dask import Record


def count_words(record: Record) -> Record:
    """Add the number of words, and the name of the worker that counted them."""
    return {**record, "num_words": len(record["text"].split()), "worker": get_worker().name}
