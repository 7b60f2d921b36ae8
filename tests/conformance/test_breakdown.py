"""One suite over all runners: where latency went is accounted for, and agrees with the server."""

from __future__ import annotations

import math

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.breakdown import (
    DASK,
    FIRST_TOKEN,
    GENERATION,
    RESIDUE,
    REST,
    SERVER_QUEUE,
    TRANSFER,
    TURN,
)
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.durable.run_folder import EVENTS
from sage_dask.event_file import read_events
from sage_dask.operators import Generate
from sage_dask.report import Report


@pytest.fixture(scope="module")
def server():
    """A timed server of four seats that tells how long requests waited and took."""
    with TimedServer(seats=4, latency_s=0.02, request_metrics=True) as server:
        yield server


def asking(endpoint, num_records=40):
    """Return a pipeline that computes, asks more than the server takes at once, and computes."""
    records = [{"prompt": f"question {number}"} for number in range(num_records)]
    generate = Generate(endpoint=endpoint, model="timed", max_tokens=4, limit=8)
    return (
        Pipeline("asking")
        .source(FromIterable(records))
        .map(dict, name="before")
        .stage("generate", generate)
        .map(dict, name="after")
        .sink(Collect())
    )


def part_of(report, name):
    """Return a part of a report's breakdown."""
    (part,) = (part for part in report.breakdown.parts if part.name == name)
    return part


@pytest.mark.parametrize("journal", [True, False])
def test_parts_are_the_latency_and_the_residue_is_small(on, server, tmp_path, journal):
    """With and without a journal; the report from the file says the same."""
    report = asking(server.endpoint).run(
        on, batch_size=8, run_dir=tmp_path / "run", durable=journal
    )

    breakdown = report.breakdown
    assert breakdown.num_records == 40
    assert breakdown.latency_s == pytest.approx(report.latency.mean_s)
    assert math.fsum(part.seconds for part in breakdown.parts) == pytest.approx(breakdown.latency_s)
    assert abs(breakdown.residue_share) < 0.02
    assert Report.from_events(read_events(tmp_path / "run" / EVENTS)).breakdown == breakdown


def test_what_the_server_told_of_each_record_is_what_the_breakdown_says(on, server):
    """The mean over all records' answers, to rounding: nothing is lost on the way."""
    pipeline = asking(server.endpoint)

    report = pipeline.run(on, batch_size=8)

    told = [record["answer_meta"] for record in pipeline.output.records]
    generate = part_of(report, "generate")
    parts = {part.name: part.seconds for part in generate.parts}
    for name, key in (
        (SERVER_QUEUE, "queue_s"),
        (FIRST_TOKEN, "first_token_s"),
        (GENERATION, "generation_s"),
    ):
        mean_s = math.fsum(meta[key] for meta in told) / len(told)
        assert parts[name] == pytest.approx(mean_s)
    assert parts[FIRST_TOKEN] + parts[GENERATION] == pytest.approx(0.02, rel=0.03)
    assert parts[SERVER_QUEUE] > 0
    assert math.fsum(parts.values()) == pytest.approx(generate.seconds)
    assert {TURN, REST} <= parts.keys()


def test_who_measured_is_told_by_the_parts_there_are(on, server):
    """A dispatcher tells of waits; in process there is none, and nothing is made up."""
    names = {part.name for part in asking(server.endpoint).run(on, batch_size=8).breakdown.parts}

    stages = {"before", "generate", "after"}
    assert names >= {"admission", *stages, "return", "commit", RESIDUE}
    dispatched = {"scheduling", TRANSFER}
    assert (names & dispatched) == (set() if on is None else dispatched)
    assert DASK not in names


def test_dasks_own_placement_is_one_part(cluster_client, server):
    """Its queue, and the way there and back."""
    report = asking(server.endpoint).run(cluster_client, batch_size=8, policy="dask")

    names = {part.name for part in report.breakdown.parts}
    assert DASK in names
    assert not names & {"scheduling", "node", TRANSFER}
    assert abs(report.breakdown.residue_share) < 0.02


def test_each_task_says_why_it_ran_where_it_did(cluster_client, server, tmp_path):
    """The events hold the dispatcher's reason for every task."""
    asking(server.endpoint).run(cluster_client, batch_size=8, run_dir=tmp_path / "run")

    events = list(read_events(tmp_path / "run" / EVENTS))
    tasks = [task for event in events for task in getattr(event, "tasks", ())]
    assert {task.task for task in tasks} == {"before", "generate", "after"}
    assert all(task.reason for task in tasks)
    formed = [event for event in events if event.kind == "batch_formed"]
    assert sorted(int(i) for event in formed for i in event.ids) == list(range(1, 41))
