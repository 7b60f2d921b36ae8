"""Counting a job from its events, and reading them back."""

from __future__ import annotations

import math

import pytest

from sage_dask.errors import AccountingError, SageError
from sage_dask.events import BatchCommitted, EventFile, JobFinished, JobStarted, read_events
from sage_dask.record import StageTiming, TaskTiming
from sage_dask.report import Report

START = JobStarted(
    pipeline="rag",
    job="1234abcd",
    runner="on 3 Dask nodes, 3 threads",
    nodes=["a", "b", "c"],
    num_threads=3,
    startup_s={"cluster": 1.5},
    stages=["embed", "generate"],
    started_at="2026-01-01T00:00:00+00:00",
)


def committed(batch, node, written, *, failed=0, filtered=0, expanded=0, busy_s=1.0, elapsed_s=4.0):
    """Return a commit of one batch whose single task ran on a node."""
    timing = StageTiming("embed", busy_s, written + failed, written)
    return BatchCommitted(
        batch=batch,
        num_read=written + failed + filtered - expanded,
        num_written=written,
        num_failed=failed,
        num_filtered=filtered,
        num_expanded=expanded,
        latency_s=0.5 * (batch + 1),
        elapsed_s=elapsed_s,
        tasks=[TaskTiming("embed", node, busy_s, 0.0, (timing,))],
        failures={"embed: ValueError": failed} if failed else {},
    )


EVENTS = [
    START,
    committed(0, "a", 3, failed=1, busy_s=1.0, elapsed_s=2.0),
    committed(1, "b", 3, filtered=2, expanded=1, busy_s=3.0, elapsed_s=4.0),
    JobFinished("done"),
]


def test_a_job_is_counted_from_its_events():
    """Counts, throughput, latency and cost per stage follow their definitions."""
    report = Report.from_events(EVENTS)

    assert (report.num_read, report.num_written, report.num_failed) == (8, 6, 1)
    assert report.throughput == 6 / 4.0
    assert (report.latency.mean_s, report.latency.p99_s) == (0.75, 1.0)
    assert report.stages["embed"].ms_per_record == pytest.approx(4000 / 7)
    assert report.failures == {"embed: ValueError": 1}
    assert report.is_done


def test_idle_nodes_count_in_the_balance():
    """A node of the cluster that did nothing pulls the balance down."""
    report = Report.from_events(EVENTS)

    assert [node.num_records for node in report.nodes.values()] == [3, 3, 0]
    assert report.balance_of_records == pytest.approx(1 - math.sqrt(2) / 2)


def test_a_sound_account_passes():
    """Read + expanded equals written + failed + filtered."""
    Report.from_events(EVENTS).check_account()


def test_a_lost_record_is_an_error():
    """A record that was read and is nowhere else must not pass in silence."""
    lost = BatchCommitted(2, 5, 4, 0, 0, 0, 1.0, 5.0, [], {})

    with pytest.raises(AccountingError, match=r"= 14, but written 10"):
        Report.from_events([*EVENTS, lost]).check_account()


def test_a_run_that_did_not_end_reports_as_far_as_it_went():
    """Events without an end are a run that was killed; its counts still stand."""
    report = Report.from_events(EVENTS[:2])

    assert (report.outcome, report.num_written, report.is_done) == ("running", 3, False)


def test_the_text_shows_what_people_ask_for():
    """In, out, failed, throughput, latency, balance, start-up and stages are in the table."""
    text = str(Report.from_events(EVENTS))

    for part in (
        "in 8   out 6   failed 1   filtered 2   expanded 1",
        "1 x embed: ValueError",
        "1.5 records/s over 4.00 s",
        "mean 750.0 ms   P50 500.0 ms   P99 1.00 s",
        "over 3 nodes",
        "1.50 s cluster",
        "571.429 ms/record",
    ):
        assert part in text


def test_events_come_back_from_their_file(tmp_path):
    """What is written is what is read, timings and all."""
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    for event in EVENTS:
        file.append(event)
    file.close()

    assert list(read_events(path)) == EVENTS


def test_a_torn_last_line_is_left_out(tmp_path):
    """A run killed in the middle of a line loads to its last whole event."""
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    for event in EVENTS:
        file.append(event)
    file.close()
    path.write_bytes(path.read_bytes()[:-7])

    assert list(read_events(path)) == EVENTS[:-1]


@pytest.mark.parametrize(
    "line", ["\udcff", "not json", "[]", '{"kind": "unheard_of"}', '{"kind": "job_finished"}']
)
def test_a_damaged_line_is_named(tmp_path, line):
    """A whole line that is no event is an error with its number, never skipped."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(line.encode(errors="surrogateescape") + b"\n")

    with pytest.raises(SageError, match=r"events\.jsonl, line 1: not an event"):
        list(read_events(path))
