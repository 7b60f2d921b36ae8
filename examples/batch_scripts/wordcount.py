"""A function to send to workers."""

from __future__ import annotations

import os

from sage_dask import Record


def count_words(record: Record) -> Record:
    """Add the number of words, and the process that counted them."""
    return {**record, "num_words": len(record["text"].split()), "process": os.getpid()}
