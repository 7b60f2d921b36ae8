"""A driver whose records wait for ever: ``python driver.py SCHEDULER``."""

from __future__ import annotations

import sys

from sage_dask import Collect, FromIterable, Pipeline


def wait(record):
    """Wait until the worker ends."""
    import threading

    threading.Event().wait(600)
    return record


if __name__ == "__main__":
    source = FromIterable([{"n": n} for n in range(10)])
    Pipeline("rag").source(source).map(wait).sink(Collect()).run(sys.argv[1], batch_size=1)
