"""One suite over both runners: every record of a run has a life that can be told."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from distributed import Client

from sage_dask import Collect, FromIterable, Operator, Pipeline, StopRun
from sage_dask.durable.known_rows import known_rows
from sage_dask.durable.run_events import run_events
from sage_dask.life.fold import LifeBuilder, possible_roots
from sage_dask.life.words import sentences
from sage_dask.operators import WriteJsonl
from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.spans.fold import spans_of


def numbers(count):
    """Return a source of records called "0", "1", ..."""
    return FromIterable([{"id": n, "x": n} for n in range(count)], id="id")


def fail_on_threes(record):
    if record["x"] % 10 == 3:
        raise ValueError(f"{record['x']} ends in three")
    return record


def parts(record):
    return [{"x": record["x"], "part": n} for n in range(1 + record["x"] % 2)]


async def waits(record):
    return record


def mixed(sink=None):
    """Return a pipeline in which records fail, vanish, multiply and wait."""
    return (
        Pipeline("mixed")
        .source(numbers(40))
        .map(fail_on_threes)
        .filter(lambda record: record["x"] % 7, name="no_sevens")
        .flat_map(parts)
        .map(waits)
        .sink(sink or Collect())
    )


def life_of(record_id, folder):
    """Return the life of a record of a run."""
    builder = LifeBuilder(record_id)
    for event in run_events(folder):
        builder.add(event)
    return builder.life(known_rows(folder, possible_roots(record_id)))


def told(life):
    return "\n".join(sentences(life, is_held=False))


@pytest.mark.parametrize("durable", [True, False])
def test_every_record_has_a_life_whose_parts_add_up(on, tmp_path, durable):
    """Fates are the run's own counts, and each latency is spent on something."""
    report = mixed().run(on, run_dir=tmp_path, durable=durable, batch_size=6)

    lives = [life_of(str(n), tmp_path) for n in range(40)]

    ends = Counter(life.passages[-1].end for life in lives)
    assert (ends["failed"], ends["dropped"]) == (report.num_failed, report.num_filtered)
    for life in lives:
        (passage,) = life.passages
        spent_s = sum(part.seconds for part in passage.breakdown.parts)
        assert spent_s == pytest.approx(passage.latency_s)
        assert {timing.stage for task in passage.tasks for timing in task.stages} == set(
            report.stages
        )
        assert told(life).startswith(f"record {life.record!r} of pipeline 'mixed': ")
    if durable:
        written = sum(len(life.fate.written) for life in lives)
        assert written == report.num_written


def test_a_life_on_a_cluster_tells_why_it_was_placed(cluster_client, tmp_path):
    """The dispatcher's reason, and the name of the node."""
    mixed().run(cluster_client, run_dir=tmp_path, batch_size=6)

    (passage,) = life_of("1", tmp_path).passages

    assert passage.tasks
    for task in passage.tasks:
        placed = f"was placed on {task.node}: least loaded: "
        assert placed in told(life_of("1", tmp_path))


def test_parts_lead_to_their_record(on, tmp_path):
    """What an expansion made has the life of what it was made of."""
    mixed().run(on, run_dir=tmp_path, batch_size=6)

    life = life_of("5/1", tmp_path)

    assert (life.record, life.fate.written) == ("5", ("5/0", "5/1"))


class Once(Operator):
    """Passes records on, but ends the first start of a run at one of them."""

    reads, writes = ("x",), ()

    def __init__(self, flag):
        self.flag = flag

    def process_batch(self, records):
        if any(record["x"] == 30 for record in records) and not self.flag.exists():
            self.flag.touch()
            raise StopRun("not yet")
        return records


def test_a_run_that_went_on_tells_of_both_starts(on, tmp_path):
    """What the first start did not finish, the second one did; spans are one trace each."""
    pipeline = Pipeline("p").source(numbers(40)).stage("once", Once(tmp_path / "flag"))
    pipeline = pipeline.sink(Collect())
    with pytest.raises(StopRun):
        pipeline.run(on, run_dir=tmp_path / "run", batch_size=6, max_in_flight=2)
    before = life_of("30", tmp_path / "run")
    pipeline.run(on, run_dir=tmp_path / "run", batch_size=6)

    after = life_of("30", tmp_path / "run")

    assert [passage.end for passage in before.passages] == ["cut off"]
    assert [passage.end for passage in after.passages] == ["cut off", "written"]
    assert "It was not back when its start ended (StopRun)" in told(after)
    spans = list(spans_of(run_events(tmp_path / "run")))
    assert len({span.trace_id for span in spans}) == 2
    assert len({span.span_id for span in spans}) == len(spans)
    assert {span.parent_id for span in spans} <= {None, *(span.span_id for span in spans)}


def test_a_record_that_the_output_refuses_is_told(on, tmp_path):
    """It was written as far as the run knew, until its export."""
    source = FromIterable([{"id": "a", "x": 1}, {"id": "b", "x": float("nan")}], id="id")
    sink = WriteJsonl(tmp_path / "out.jsonl")
    Pipeline("p").source(source).map(dict).sink(sink).run(on, run_dir=tmp_path / "run")

    life = life_of("b", tmp_path / "run")

    assert "It was refused by the output as it was exported, with " in told(life)


def test_the_keys_of_what_is_under_way_are_known_to_the_scheduler(cluster_client, tmp_path):
    """The user can go on asking with what the events tell."""
    mixed().run(cluster_client, run_dir=tmp_path, durable=False, batch_size=6)
    events = tmp_path / "events.jsonl"
    lines = events.read_text().splitlines(keepends=True)
    events.write_text("".join(lines[:2]))

    (passage,) = life_of("1", tmp_path).passages

    control = SchedulerControl(Client.current())
    assert len(passage.keys) == 2
    for key in passage.keys:
        assert [name for name, _ in control.why(key)] == [key]
    assert json.loads(lines[0])["task_names"] == [key.split("-")[0][2:] for key in passage.keys]
