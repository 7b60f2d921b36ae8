"""Work with a known cost."""

from __future__ import annotations

import time

from sage_dask import Pipeline
from sage_dask.experiments.work import Discard, Numbers, burn_25_ms, first, second, third


def test_numbers_are_made_as_they_are_read():
    """The source knows its size and yields one record per number."""
    source = Numbers(3)

    assert source.size() == 3
    assert [(item.id, item.record) for item in source.read()] == [
        ("0", {"x": 0}),
        ("1", {"x": 1}),
        ("2", {"x": 2}),
    ]


def test_no_ops_change_nothing():
    """The three maps are for counting overhead alone."""
    record = {"x": 1}

    assert first(record) is second(record) is third(record) is record


def test_a_burn_costs_cpu_time():
    """At least 25 ms of this thread's own CPU time are spent."""
    started = time.thread_time()

    burn_25_ms({})

    assert time.thread_time() - started >= 0.025


def test_discarded_records_are_counted():
    """A sink that keeps nothing still lets the report count what it was given."""
    report = Pipeline("p").source(Numbers(100)).map(first).sink(Discard()).run()

    assert (report.num_read, report.num_written) == (100, 100)
