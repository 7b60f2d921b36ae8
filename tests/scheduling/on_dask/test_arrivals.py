"""A worker's end of what is told of a task."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from sage_dask.scheduling.on_dask import arrivals
from sage_dask.scheduling.on_dask.arrivals import Arrivals, told_of
from sage_dask.scheduling.on_dask.wire import PLACED
from sage_dask.testing import FakeClock

KEY = ("embed-1", 0)


@pytest.fixture
def clock(monkeypatch):
    """Lend the worker's clock."""
    clock = FakeClock(100.0)
    monkeypatch.setattr(arrivals.time, "perf_counter", clock)
    return clock


def fake_worker(annotations):
    """Return a worker that has one task, and follows arrivals."""
    task = SimpleNamespace(annotations=annotations)
    worker = SimpleNamespace(state=SimpleNamespace(tasks={KEY: task}), plugins={})
    plugin = worker.plugins[Arrivals.name] = Arrivals()
    plugin.setup(worker)
    return worker, plugin


def ours():
    """Return the annotations of a task that the dispatcher placed."""
    return {"sage": {}, PLACED: {"waits": {"node": 2.0}, "reason": "least loaded"}}


def test_inputs_and_queue_are_told_apart(clock):
    """From coming until all inputs are there, and from there until it runs."""
    worker, plugin = fake_worker(ours())
    plugin.transition(KEY, "released", "waiting")
    clock.advance(3.0)
    plugin.transition(KEY, "waiting", "ready")
    clock.advance(1.0)
    plugin.transition(KEY, "ready", "executing")
    clock.advance(0.5)

    waits, reason = told_of(worker, KEY)

    assert waits == {"node": 2.0, "inputs": 3.0, "queue": 1.5}
    assert reason == "least loaded"


@pytest.mark.parametrize("end", ["memory", "error", "released", "forgotten", "cancelled"])
def test_a_task_that_is_over_is_forgotten(clock, end):
    """Else a worker that is up for months would keep them all."""
    worker, plugin = fake_worker(ours())
    plugin.transition(KEY, "released", "waiting")

    plugin.transition(KEY, "executing", end)

    assert told_of(worker, KEY)[0] == {"node": 2.0}


def test_other_users_tasks_are_left_alone(clock):
    """Nothing is noted of a task that is not annotated as ours."""
    worker, plugin = fake_worker(None)
    plugin.transition(KEY, "released", "waiting")

    assert plugin.waits(KEY) == {}
    assert told_of(worker, KEY) == ({}, "")


def test_without_a_worker_nothing_is_told():
    """Dask's own schedulers run tasks in threads of the driver."""
    assert told_of(None, KEY) == ({}, "")


def test_a_worker_that_came_before_the_plugin_tells_what_the_dispatcher_said(clock):
    """What it does not measure itself is not made up."""
    worker, _ = fake_worker(ours())
    worker.plugins.clear()

    assert told_of(worker, KEY) == ({"node": 2.0}, "least loaded")
