"""One task on one batch: making ready, letting go, waiting, timings."""

from __future__ import annotations

import asyncio
import os
import sys
import threading

import cloudpickle
import pytest

from sage_dask import aio
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.endpoint.context import RequestContext, current
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import PlanError, RunError, SetupError
from sage_dask.execute import TaskExecutor
from sage_dask.operators import Generate
from sage_dask.operators.basic import Filter
from sage_dask.plan import StagePlan
from sage_dask.record import Batch
from sage_dask.stage import Operator, Stage

# Subprocesses can not import tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def batch_of(*values: object) -> Batch:
    """Return a batch with one record per value, called "0", "1", ..."""
    return Batch(0, [str(n) for n in range(len(values))], [{"x": value} for value in values])


class Doubler(Operator):
    """Doubles numbers, a whole batch at once: one bad record makes the batch raise."""

    def __init__(self):
        self.calls = []

    def process_batch(self, records):
        self.calls.append(len(records))
        return [{"x": record["x"] * 2 + 0} for record in records]


def test_set_up_runs_once_and_on_a_copy():
    """Two runs set the operator up once, and the declared one stays as it was."""

    class Counting(Doubler):
        ready = 0

        def setup(self):
            self.ready += 1

        def process_batch(self, records):
            return [{"x": self.ready} for _ in records]

    declared = Counting()
    executor = TaskExecutor(StagePlan((Stage("count", declared),)))

    first = executor.run(batch_of(1), node="a")
    second = executor.run(batch_of(1), node="a")

    assert first.records == second.records == [{"x": 1}]
    assert declared.ready == 0


def test_a_set_up_that_fails_names_its_stage_and_tears_down_the_others():
    """The first operator is let go when the second can not be made ready."""
    log = []

    class Fine(Doubler):
        def teardown(self):
            log.append("down")

    class Broken(Doubler):
        def setup(self):
            raise PlanError("no such model")

    executor = TaskExecutor(StagePlan((Stage("fine", Fine()), Stage("broken", Broken()))))

    with pytest.raises(SetupError, match="stage 'broken': no such model"):
        executor.setup()

    assert log == ["down"]


def test_operators_are_let_go_only_when_no_batch_is_running():
    """A job that ends while a batch runs does not pull its model away; no batch follows."""
    log = []

    class Slow(Doubler):
        def process_batch(self, records):
            executor.teardown()
            log.append("batch done")
            return list(records)

        def teardown(self):
            log.append("down")

    executor = TaskExecutor(StagePlan((Stage("slow", Slow()),)))

    executor.run(batch_of(1), node="a")

    assert log == ["batch done", "down"]
    with pytest.raises(RunError, match="its job has ended"):
        executor.run(batch_of(1), node="a")


def test_timings_tell_each_stage_of_a_fused_task():
    """Two stages in one task have a timing each, and the task's covers both."""
    now = iter(range(100))
    task = StagePlan((Stage("a", Doubler()), Stage("b", Filter(lambda r: r["x"] > 2))))
    executor = TaskExecutor(task, clock=lambda: float(next(now)))

    (timing,) = executor.run(batch_of(1, 2), node="n7").tasks

    assert (timing.task, timing.node) == ("a+b", "n7")
    assert [(s.stage, s.records_in, s.records_out) for s in timing.stages] == [
        ("a", 2, 2),
        ("b", 2, 1),
    ]
    assert sum(stage.seconds for stage in timing.stages) <= timing.seconds


class Meeting(Operator):
    """Answers a batch once as many batches are there as it was told to wait for."""

    def __init__(self, wanted):
        self.wanted = wanted
        self.met = None
        self.num_called_off = []

    async def process_batch(self, records):
        self.met = self.met or asyncio.Event()
        self.wanted -= 1
        if self.wanted <= 0:
            self.met.set()
        try:
            await self.met.wait()
        except asyncio.CancelledError:
            self.num_called_off.append(len(records))
            raise
        return records


def test_batches_that_wait_do_so_together_and_without_threads():
    """Twenty batches of one task are under way at once on one loop, more than it has threads."""
    executor = TaskExecutor(StagePlan((Stage("meet", Meeting(20)),)))

    futures = [aio.submit(executor.run_waiting(batch_of(n), node="n")) for n in range(20)]

    assert [future.result(10).records for future in futures] == [[{"x": n}] for n in range(20)]


@pytest.mark.parametrize("deadline_s", [None, 1000])
def test_the_end_of_a_job_calls_off_what_it_waits_for(deadline_s):
    """Tearing down ends a batch that would wait for ever, and its operator hears of it."""
    operator = Meeting(2)
    executor = TaskExecutor(StagePlan((Stage("meet", operator, deadline_s=deadline_s),)))
    future = aio.submit(executor.run_waiting(batch_of(1, 2), node="n"))
    aio.run(asyncio.sleep(0.01))

    executor.teardown()

    with pytest.raises(RunError, match="job has ended"):
        future.result(10)
    assert operator.num_called_off == [2]
    with pytest.raises(RunError, match="job has ended"):
        aio.run(executor.run_waiting(batch_of(3), node="n"))


class Spending(Operator):
    """Counts one request per record."""

    async def process_batch(self, records):
        current().usage.add(Usage(requests=len(records)))
        return records


def test_what_a_stage_spends_stands_beside_its_time():
    """Requests are counted for the stage and the batch that made them, and for the right job."""
    made = []

    def context():
        made.append(RequestContext(job="p/1"))
        return made[-1]

    executor = TaskExecutor(StagePlan((Stage("first", Spending()), Stage("second", Spending()))))

    batch = executor.run(batch_of(1, 2, 3), node="n", context=context)

    assert [timing.usage.requests for timing in batch.tasks[0].stages] == [3, 3]
    assert len(made) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_where_the_calls_of_a_stage_spent_their_time_stands_beside_it(tmp_path, stream):
    """All sums of the batch: ours, and the server's as each record has them; none from a cache."""
    with TimedServer(latency_s=0.01, seats=2, request_metrics=True) as server:
        ask = Generate(
            server.endpoint, "timed", max_tokens=4, temperature=0, stream=stream,
            cache=str(tmp_path / "cache.db"), prompt="x",
        )  # fmt: skip
        executor = TaskExecutor(StagePlan((Stage("ask", ask), Stage("after", Filter(bool)))))
        asked, cached = (executor.run(batch_of("a", "b", "c"), node="n") for _ in range(2))
        executor.teardown()

    calls = asked.tasks[0].stages[0].calls
    metas = [record["answer_meta"] for record in asked.records]
    assert (calls.calls, calls.told, calls.backoff_s) == (3, 3, 0.0)
    assert calls.told_sent_s == pytest.approx(sum(meta["latency_s"] for meta in metas))
    for name in ("queue_s", "first_token_s", "generation_s"):
        assert getattr(calls, name) == pytest.approx(sum(meta[name] for meta in metas))
    assert calls.first_token_s + calls.generation_s == pytest.approx(3 * 0.01)
    assert calls.queue_s <= calls.told_sent_s <= calls.sent_s
    assert asked.tasks[0].stages[1].calls is None
    assert cached.tasks[0].stages[0].usage.cache_hits == 3
    assert cached.tasks[0].stages[0].calls is None


class CancelsItself(Operator):
    """Raises what asyncio raises in a task that is called off, though nobody called."""

    async def process_batch(self, records):
        raise asyncio.CancelledError


@pytest.mark.parametrize("is_waiting", [True, False])
def test_a_cancellation_of_the_operators_own_fails_its_records(is_waiting):
    """Only who runs the batch can call it off; an operator that cancels itself fails records."""
    stages = [Stage("a", CancelsItself())]
    if not is_waiting:
        stages.insert(0, Stage("sync", Doubler()))
    executor = TaskExecutor(StagePlan(tuple(stages)))

    batch = executor.run(batch_of(1, 2), node="n")

    assert [failure.error for failure in batch.failures] == ["CancelledError", "CancelledError"]


class Elsewhere(Operator):
    """Tells where it works; refuses to be made ready if told so."""

    def __init__(self, refusal=None):
        self.refusal = refusal

    def setup(self):
        if self.refusal is not None:
            raise self.refusal

    def process_batch(self, records):
        return [{"x": os.getpid()} for _ in records]


def test_an_isolated_stage_leaves_its_neighbours_where_they_are():
    """Of two stages in one task, the isolated one alone works in another process."""
    executor = TaskExecutor(
        StagePlan((Stage("apart", Elsewhere(), isolate=True), Stage("double", Doubler())))
    )

    first = executor.run(batch_of(1), node="n").records
    second = executor.run(batch_of(1), node="n").records
    executor.teardown()

    assert first == second != [{"x": 2 * os.getpid()}]


@pytest.mark.parametrize("refusal", [PlanError("no such model"), ValueError("no such model")])
def test_a_refusal_to_be_made_ready_is_told_alike_wherever_it_happens(refusal):
    """A set-up that fails in a subprocess says word for word what it says in this one."""
    told = []
    for isolate in (False, True):
        stage = Stage("model", Elsewhere(refusal), isolate=isolate)
        with pytest.raises(SetupError) as caught:
            TaskExecutor(StagePlan((stage,))).setup()
        told.append(str(caught.value))

    assert told[0] == told[1]
    assert "no such model" in told[0]


def test_a_batch_that_waits_for_anothers_set_up_took_as_long_to_set_up():
    """It came while the operators were made ready; a later one finds them so."""
    now, inside, came = [0.0], threading.Event(), threading.Event()

    class Slow(Operator):
        def setup(self):
            inside.set()
            came.wait(10)
            now[0] += 5.0

        def process_batch(self, records):
            return records

    def clock():
        now_s = now[0]
        if threading.current_thread() is second:
            came.set()
        return now_s

    def run():
        batches.append(executor.run(Batch(0, ["0"], [{"x": 0}]), node="here"))

    batches, executor = [], TaskExecutor(StagePlan((Stage("slow", Slow()),)), clock=clock)
    first, second = threading.Thread(target=run), threading.Thread(target=run)
    first.start()
    assert inside.wait(10)
    second.start()
    first.join(10)
    second.join(10)
    run()

    assert [batch.tasks[0].setup_seconds for batch in batches[:2]] == [5.0, 5.0]
    assert batches[2].tasks[0].setup_seconds == 0.0
