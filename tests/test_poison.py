"""Records that kill the worker they run on: real processes, found out and failed alone."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cluster import LocalNodes

pytestmark = pytest.mark.cluster


# Functions within functions: these travel to workers whole, which can not import this module.


def exit_on(*numbers):
    """Return a function that ends its process, without a word, on some numbers."""

    def use(record):
        if record["x"] in numbers:
            os._exit(1)
        return record

    return use


def kill_on(*numbers):
    """Return one that ends its process as the kernel's out-of-memory killer would."""

    def use(record):
        if record["x"] in numbers:
            os.kill(os.getpid(), signal.SIGKILL)
        return record

    return use


def hoard_on(number):
    """Return one that takes more memory than there is, in steps, and keeps it until it is ended."""

    def use(record):
        hoard = []
        if record["x"] == number:
            while len(hoard) < 40:
                hoard.append(b"x" * (16 << 20))
            threading.Event().wait(60)
        return record

    return use


def run(nodes, use, num_records, needs, **options):
    """Return the report and the sink of numbers that went through a function."""
    sink = Collect()
    report = (
        Pipeline("poison")
        .source(FromIterable([{"id": x, "x": x} for x in range(num_records)], id="id"))
        .map(use, resources=needs)
        .sink(sink)
        .run(nodes, **options)
    )
    return report, sink


@pytest.fixture(scope="module")
def nodes():
    """Lend two worker processes, which are there again when they were killed."""
    with LocalNodes(2, resources={"LLM": 1}, dashboard=None) as nodes:
        yield nodes


@pytest.mark.parametrize("needs", [{}, {"LLM": 1}])
@pytest.mark.parametrize(
    ("poison", "options"),
    [
        pytest.param(exit_on, {}, id="ends", marks=pytest.mark.slow),
        # Dask gives all that is under way to the two workers at once, and blames all of it.
        pytest.param(
            kill_on, {"policy": "dask", "batch_size": 5, "max_in_flight": 60}, id="killed, piled up"
        ),
    ],
)
def test_two_poison_records_fail_and_all_others_pass(nodes, poison, options, needs):
    """Of 600 records the two that end their process fail, however tasks pile up on workers."""
    report, sink = run(nodes, poison(123, 421), 600, needs, **options)

    assert [failure.id for failure in sink.failures] == ["123", "421"]
    assert {failure.error for failure in sink.failures} == {"KilledWorker"}
    assert [failure.record["x"] for failure in sink.failures] == [123, 421]
    assert sink.ids == [str(x) for x in range(600) if x not in (123, 421)]
    assert (report.num_written, report.num_failed) == (598, 2)


def test_two_poison_records_in_one_batch_fail_and_their_neighbours_pass(nodes):
    """Halving finds both, and the batch comes back in order with its account whole."""
    report, sink = run(nodes, exit_on(3, 4), 40, {}, batch_size=10)

    assert [failure.id for failure in sink.failures] == ["3", "4"]
    assert [failure.record["x"] for failure in sink.failures] == [3, 4]
    assert sink.ids == [str(x) for x in range(40) if x not in (3, 4)]
    assert report.num_read == 40


def test_a_record_that_exceeds_the_memory_limit_fails_as_such():
    """The nanny's note of why it ended the process becomes the record's error."""
    with LocalNodes(2, memory_limit="512MiB", dashboard=None) as nodes:
        report, sink = run(nodes, hoard_on(13), 64, {}, batch_size=16)

    (failure,) = sink.failures
    assert (failure.id, failure.error) == ("13", "OutOfMemory")
    assert "(limit 512 MiB)" in failure.message
    assert sink.ids == [str(x) for x in range(64) if x != 13]
    assert (report.num_written, report.num_failed) == (63, 1)
