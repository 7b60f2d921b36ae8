"""Counting a job from its events."""

from __future__ import annotations

import json
import math

import pytest

from sage_dask.errors import AccountingError
from sage_dask.events import BatchCommitted, JobFinished, JobStarted
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


def test_a_job_that_did_nothing_has_a_report():
    """No record and no time is no division by zero, and the figures that are none say so."""
    report = Report.from_events([START, JobFinished("done")])

    assert report.throughput == 0.0
    assert report.stages["embed"].ms_per_record == 0.0
    assert report.balance_of_records == 1.0
    assert "P50 -" in str(report)


def test_plain_values_are_what_json_takes():
    """The dictionary goes through JSON, with the figures that are computed."""
    plain = json.loads(json.dumps(Report.from_events(EVENTS).as_dict()))

    assert (plain["num_written"], plain["throughput_per_s"]) == (6, 1.5)
    assert plain["nodes"]["c"] == {"num_tasks": 0, "busy_s": 0.0, "num_records": 0}


def test_the_error_that_ended_a_job_is_in_its_report():
    """Outcome and message stand at the top of the text."""
    report = Report.from_events([*EVENTS[:3], JobFinished("SinkError", "disk full")])

    assert not report.is_done
    assert str(report).splitlines()[:2] == [
        "pipeline rag, job 1234abcd, on 3 Dask nodes, 3 threads: SinkError",
        "  disk full",
    ]


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
