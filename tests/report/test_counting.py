"""Counting a job from its events."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from sage_dask.endpoint.usage import Usage
from sage_dask.errors import AccountingError
from sage_dask.events import (
    BatchCommitted,
    BatchKept,
    JobFinished,
    RecordsTakenBack,
    event_line,
    parse_event,
)
from sage_dask.report import Report, ReportBuilder
from sage_dask.sketch import Sketch
from tests.report.building import EVENTS, MEASURED, START, asked, committed


def test_a_job_is_counted_from_its_events():
    """Counts, throughput, latency and cost per stage follow their definitions."""
    report = Report.from_events(EVENTS)

    assert (report.num_read, report.num_written, report.num_failed) == (8, 6, 1)
    assert report.throughput == 6 / 4.0
    assert (report.latency.mean_s, report.latency.p99_s) == (0.75, 1.0)
    assert report.stages["embed"].ms_per_record == pytest.approx(4000 / 7)
    assert report.failures == {"embed: ValueError": 1}
    assert report.is_done


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
    assert "latency     not measured: no record was written" in str(report)


def test_plain_values_are_what_json_takes():
    """The dictionary goes through JSON, with the figures that are computed."""
    plain = json.loads(json.dumps(Report.from_events(EVENTS).as_dict()))

    assert (plain["num_written"], plain["throughput_per_s"]) == (6, 1.5)
    assert plain["nodes"]["c"] == {"num_tasks": 0, "busy_s": 0.0, "num_records": 0}


def test_stages_count_their_batches_by_what_each_took():
    """How long batches were in a stage is kept as a sketch, and is no part of the JSON."""
    report = Report.from_events(EVENTS)

    assert Sketch(report.stages["embed"].durations).at_most([0.5, 2.0, 4.0]) == [0, 1, 2]
    assert report.stages["generate"].durations == {}
    assert "durations" not in report.as_dict()["stages"]["embed"]
    assert report == Report.from_events(parse_event(event_line(event)) for event in EVENTS)


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


def test_calls_are_counted_per_stage():
    """The times of calls add up by stage; a stage that asks nobody has none."""
    report = Report.from_events(MEASURED)

    assert (report.stages["generate"].calls.calls, report.stages["embed"].calls.calls) == (4, 0)
    assert report.stages["generate"].calls.generation_s == 2.4


def test_what_a_run_was_made_with_is_its_last_start():
    """Policy, command and versions are those of the start that is reported last."""
    again = replace(START, policy="pack", command="sage-dask resume r", versions={"dask": "1"})

    report = Report.from_events([*EVENTS[:2], again])

    assert (report.policy, report.command, report.versions) == (
        "pack",
        "sage-dask resume r",
        {"dask": "1"},
    )


def test_a_commit_that_is_told_later_is_part_of_the_latency():
    """The latency of a journaled batch runs until it is safe."""
    uncommitted = replace(committed(0, "a", 3), is_kept=False)

    report = Report.from_events([START, uncommitted, BatchKept(0, 0.25), JobFinished("done")])

    assert report.latency.mean_s == report.latency.p99_s == 0.75
    assert report.latency.num_records == 3


def test_the_makespan_lasts_until_the_last_commit():
    """It ends with the last write, and so no latency is longer; each start adds its own."""
    first = replace(committed(0, "a", 3, elapsed_s=2.0), is_kept=False)
    second = replace(committed(1, "a", 3, elapsed_s=2.25), is_kept=False)
    start = [START, first, BatchKept(0, 0.5), second]

    reports = [Report.from_events(events) for events in (start, [*start, *start])]

    assert [report.makespan_s for report in reports] == [2.5, 5.0]


def test_a_batch_whose_commit_nobody_told_of_counts_as_far_as_it_is_known():
    """Its run was killed just then; a later batch of the same number is another."""
    uncommitted = replace(committed(0, "a", 3), is_kept=False)

    report = Report.from_events([START, uncommitted, START, uncommitted, BatchKept(0, 0.5)])

    assert report.latency.num_records == 6
    assert report.latency.mean_s == pytest.approx(0.75)


def test_a_glance_is_the_report_with_rougher_percentiles():
    """What is looked at while a run goes on says the same to one per cent."""
    builder = ReportBuilder()
    for event in EVENTS:
        builder.add(event)

    glance = builder.glance()
    report = builder.report()

    assert glance.latency.p99_s == pytest.approx(report.latency.p99_s, rel=0.01)
    assert replace(glance, latency=report.latency) == report


def test_the_latest_failures_keep_their_words():
    """The last ten, the latest last."""
    failing = [
        replace(committed(n, "a", 0, failed=1), failed={f"id-{n}": f"embed: E: no {n}"})
        for n in range(12)
    ]

    report = Report.from_events([START, *failing])

    assert next(iter(report.last_failures.items())) == ("id-2", "embed: E: no 2")
    assert list(report.last_failures)[-1] == "id-11"


def test_what_is_tried_again_is_among_the_latest_failures_no_more():
    """Once all failures of a kind were taken back; those of another kind stay."""
    failing = replace(
        committed(0, "a", 0, failed=2),
        failures={"embed: ValueError": 1, "read: RowError": 1},
        failed={"id-0": "embed: ValueError: no", "id-1": "read: RowError: no"},
    )
    taken_back = RecordsTakenBack(1, 0, 1, 0, 0, {"embed: ValueError": 1})

    report = Report.from_events([START, failing, taken_back, START, committed(0, "a", 1)])

    assert report.failures == {"read: RowError": 1}
    assert report.last_failures == {"id-1": "read: RowError: no"}
