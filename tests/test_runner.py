"""Batches of a run in this process: how many wait together, and what ends them early."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

import pytest

from sage_dask import Collect, FromIterable, Pipeline, StopRun
from sage_dask.durable.run_events import run_events
from sage_dask.events import BatchCommitted
from sage_dask.governor import own_governor
from sage_dask.stage import Operator


class Together(Operator):
    """Answers once nothing else is going to come, and counts the batches that are there."""

    def __init__(self):
        self.now = 0
        self.most = 0

    async def process_batch(self, records):
        self.now += 1
        self.most = max(self.most, self.now)
        # The driver hands out all that it will before the loop has turned so often.
        await asyncio.sleep(0.02)
        self.now -= 1
        return records


def waiting(operator, num_records=60):
    """Return a pipeline of one stage that waits."""
    source = FromIterable([{"x": n} for n in range(num_records)])
    return Pipeline("waiting").source(source).stage("wait", operator).sink(Collect())


class Watched(Together):
    """Leaves its counts where the test finds them, as runs work on copies."""

    seen: ClassVar[list[Watched]] = []

    def setup(self):
        self.seen.append(self)


@pytest.fixture
def watched():
    """Lend the list of operators that ran."""
    Watched.seen = []
    return Watched.seen


def test_batches_that_wait_do_so_together(watched):
    """Without servers that say how much they take, four batches."""
    pipeline = waiting(Watched())

    report = pipeline.run(batch_size=1)

    assert report.num_written == 60
    assert watched[0].most == 4


@pytest.mark.parametrize("most", [1, 2, 9])
def test_the_window_is_what_the_user_says(watched, most):
    """Fewer batches or more."""
    waiting(Watched()).run(batch_size=1, max_in_flight=most)

    assert watched[0].most == most


def test_the_window_follows_what_servers_take(watched, monkeypatch):
    """As many records as there is room for, whatever the batches' size."""

    class Asker(Watched):
        endpoints: ClassVar = ("http://127.0.0.1:1/v1",)

    monkeypatch.setattr(own_governor(), "room", lambda endpoints: 20)

    waiting(Asker()).run(batch_size=2)

    assert watched[0].most == 10


def test_output_keeps_the_order_of_the_input():
    """Though batches come back as their answers do."""

    class Backwards(Operator):
        async def process_batch(self, records):
            await asyncio.sleep(0.01 * (records[0]["x"] % 3))
            return records

    pipeline = waiting(Backwards(), 12)
    pipeline.run(batch_size=1)

    assert [record["x"] for record in pipeline.output.records] == list(range(12))


def test_stages_before_and_behind_run_in_the_callers_thread():
    """Only what waits is on the loop; the rest is where users' libraries expect it."""
    threads = []

    def noted(record):
        threads.append(threading.current_thread())
        return record

    source = FromIterable([{"x": n} for n in range(4)])
    pipeline = (
        Pipeline("p")
        .source(source)
        .map(noted, name="before")
        .stage("wait", Together())
        .map(noted, name="behind")
        .sink(Collect())
    )

    pipeline.run(batch_size=1)

    assert len(threads) == 8
    assert set(threads) == {threading.current_thread()}


@pytest.mark.parametrize("error", [StopRun("planted"), KeyboardInterrupt("planted")])
def test_an_error_of_a_waiting_batch_ends_the_run_and_calls_off_the_others(error):
    """They would wait for ever; the run ends with the error, and their operators hear of it."""
    called_off = threading.Event()

    class Fails(Operator):
        async def process_batch(self, records):
            if records[0]["x"] == 2:
                await asyncio.sleep(0.01)
                raise error
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                called_off.set()
                raise

    pipeline = waiting(Fails())

    with pytest.raises(type(error), match="planted"):
        pipeline.run(batch_size=1)

    assert called_off.wait(30)
    assert pipeline.output.records == []


def test_reading_a_batch_that_an_earlier_start_began_is_admission(tmp_path):
    """It goes on after a stage that is done, and yet has not come back from anywhere."""
    go_on = tmp_path / "go-on"

    def refuse_once(record):
        if not go_on.exists():
            go_on.touch()
            raise StopRun("not now")
        return record

    source = FromIterable([{"id": n} for n in range(4)], id="id")
    pipeline = Pipeline("p").source(source).map(dict, name="ask", memo=True)
    pipeline = pipeline.map(refuse_once, fuse=False).sink(Collect())
    with pytest.raises(StopRun):
        pipeline.run(run_dir=tmp_path / "run", batch_size=4)

    pipeline.run(run_dir=tmp_path / "run", batch_size=4)

    (done,) = (event for event in run_events(tmp_path / "run") if isinstance(event, BatchCommitted))
    assert [task.task for task in done.tasks] == ["refuse_once"]
    assert done.spent.keys() == {"admission", "here", "commit"}
