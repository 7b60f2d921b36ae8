"""The lines of a report that people read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sage_dask.endpoint.usage import Usage
from sage_dask.events import JobFinished
from sage_dask.report import Report
from sage_dask.report.text import lines
from tests.report.building import EVENTS, MEASURED, START, asked, measured

BREAKDOWN = """\
  breakdown   of the mean latency    ms/record   share
              admission                100.000    4.0%
              gate                     500.000   20.0%
              transfer                 200.000    8.0%
              embed                    400.000   16.0%
              generate               1,200.000   48.0%
                slot                 100.000      4.0%
                server queue         100.000      4.0%
                first token          200.000      8.0%
                generation           600.000     24.0%
                network              100.000      4.0%
                rest of the batch    100.000      4.0%
              commit                   100.000    4.0%
              residue                    0.000    0.0%
              total                  2,500.000  100.0%"""


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


def test_the_error_that_ended_a_job_is_in_its_report():
    """Outcome and message stand at the top of the text."""
    report = Report.from_events([*EVENTS[:3], JobFinished("SinkError", "disk full")])

    assert not report.is_done
    assert str(report).splitlines()[:2] == [
        "pipeline rag, job 1234abcd, on 3 Dask nodes, 3 threads: SinkError",
        "  disk full",
    ]


def test_the_breakdown_is_a_table_that_adds_up():
    """Each part has a row, parts of a stage are indented, and residue and total end it."""
    text = "\n".join(lines(Report.from_events(MEASURED), in_full=True))

    assert BREAKDOWN in text


def test_what_a_run_prints_of_it_is_a_dozen_lines():
    """Small parts are summed up until the table is short; the whole is printed on request."""
    text = str(Report.from_events(MEASURED)).splitlines()

    shown = text[next(n for n, line in enumerate(text) if line.startswith("  breakdown")) :]
    assert len(shown) <= 12
    assert shown[-1].split() == ["total", "2,500.000", "100.0%"]


def test_a_breakdown_of_an_older_version_is_not_measured():
    """Events without parts give no zeros, and no table."""
    text = str(Report.from_events(EVENTS))

    assert "  breakdown   not measured: the events are of an older version" in text.splitlines()


def test_a_breakdown_of_some_records_says_so():
    """A run that an older version began is broken down as far as it can be."""
    text = str(Report.from_events([*EVENTS[:3], measured(2)]))

    assert "of the mean latency, 2 of 8 records" in text


def test_a_run_that_did_nothing_has_no_figures():
    """Killed before its first batch: what was not measured is not told as zero."""
    text = str(Report.from_events([START]))

    assert "throughput  not measured: no batch was done" in text
    assert "latency     not measured: no record was written" in text
    assert "stage       generate  not measured: no record came to it" in text
    assert "breakdown" not in text
    assert "balance" not in text


def test_details_are_told_on_request():
    """Last failures, policy, command and versions are in the whole text, and not after a run."""
    start = replace(START, policy="pack", command="sage-dask run p.yaml", versions={"dask": "1"})
    report = Report.from_events([start, measured(0, failed=1), JobFinished("done")])
    details = [
        "  failed last q-0-0: embed: ValueError: <b>&",
        "  policy      pack",
        "  command     sage-dask run p.yaml",
        "  versions    dask 1",
    ]

    assert set(details) <= set(lines(report, in_full=True))
    assert not set(details) & set(lines(report))


@pytest.mark.parametrize("in_full", [True, False])
def test_events_of_nobody_have_a_text(in_full):
    """Even without a start there is something to say."""
    assert "pipeline ?" in "\n".join(lines(Report.from_events([EVENTS[1]]), in_full=in_full))


def test_the_last_failures_are_a_line_each():
    """Ids and messages may hold line breaks, and orders to a terminal."""
    report = replace(
        Report.from_events([START]), last_failures={"a\nb": "ValueError: \x1b[31mno\nreally"}
    )

    assert "  failed last a b: ValueError: no really" in lines(report, in_full=True)
