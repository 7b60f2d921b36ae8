"""Counting a job from its events."""

from __future__ import annotations

import json
import math

import pytest

from sage_dask.endpoint.usage import Usage
from sage_dask.errors import AccountingError
from sage_dask.events import BatchCommitted, JobFinished, JobStarted
from sage_dask.record import StageTiming, TaskTiming
from sage_dask.report import Report, ReportBuilder

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


def asked(batch, stage, usage, *, elapsed_s=4.0):
    """Return a commit of one batch whose only stage sent requests."""
    timing = StageTiming(stage, 1.0, 2, 2, usage)
    task = TaskTiming(stage, "a", 1.0, 0.0, (timing,))
    return BatchCommitted(batch, 2, 2, 0, 0, 0, 0.5, elapsed_s, [task], {})


def test_usage_is_counted_per_stage_and_per_job():
    """What batches cost adds up by stage, and stages add up to the job."""
    embedded = Usage(requests=2, prompt_tokens=100)
    answered = Usage(requests=2, retries=1, prompt_tokens=400, completion_tokens=40, cost=0.5)
    cached = Usage(cache_hits=2)

    batches = [("embed", embedded), ("generate", answered), ("generate", answered)]
    events = [asked(number, *batch) for number, batch in enumerate(batches)]
    events.append(asked(3, "generate", cached, elapsed_s=10.0))

    report = Report.from_events([START, *events])

    assert report.stages["embed"].usage == embedded
    assert report.stages["generate"].usage == Usage(
        requests=4, retries=2, cache_hits=2, prompt_tokens=800, completion_tokens=80, cost=1.0
    )
    assert report.usage.tokens == 980
    assert report.tokens_per_s == 98.0
    assert answered.requests == 2, "the events themselves stay as they were"


def test_usage_is_told_in_three_lines():
    """Requests, tokens and cost are in the text in numbers that can be said, and in JSON whole."""
    usage = Usage(5_000, 12, 340, 1_200_000, 456_000, 310_000, 12.4)

    report = Report.from_events([START, asked(0, "generate", usage, elapsed_s=100.0)])

    assert str(report).splitlines()[5:8] == [
        "  requests    5,000 sent, 12 again, 340 from the cache",
        "  tokens      prompt 1.2M (38% cached by the server)   completion 310k   15,100 tok/s",
        "  cost        12.40",
    ]
    assert "in, 2 out; 1.5M tokens, cost 12.40" in str(report)
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["usage"]["prompt_tokens"] == 1_200_000
    assert plain["stages"]["generate"]["usage"]["cost"] == 12.4
    assert plain["tokens_per_s"] == 15_100.0


def test_a_job_without_requests_says_nothing_of_them():
    """Where nothing was sent, neither requests nor tokens nor cost are mentioned."""
    text = str(Report.from_events(EVENTS))

    assert not any(word in text for word in ("requests", "tokens", "tok/s", "cost"))


def test_a_report_of_the_moment_does_not_change_with_later_events():
    """A report that was handed out keeps its counts while the job goes on."""
    builder = ReportBuilder()
    builder.add(START)
    builder.add(asked(0, "generate", Usage(requests=1)))

    early = builder.report()
    builder.add(asked(1, "generate", Usage(requests=1)))

    assert (early.usage.requests, builder.report().usage.requests) == (1, 2)


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
