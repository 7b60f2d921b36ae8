"""One task on one batch: outcomes, isolation of failures, accounts."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask import aio
from sage_dask.endpoint.context import RequestContext, current
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import PlanError, RunError, SetupError, StopRun
from sage_dask.execute import TaskExecutor, apply_stage, blocking, driven
from sage_dask.operators.basic import Filter, FlatMap, Map
from sage_dask.plan import StagePlan
from sage_dask.record import Batch
from sage_dask.stage import Operator, Stage


def batch_of(*values: object) -> Batch:
    """Return a batch with one record per value, called "0", "1", ..."""
    return Batch(0, [str(n) for n in range(len(values))], [{"x": value} for value in values])


def applied(stage: Stage, operator: Operator, batch: Batch) -> Batch:
    """Return the batch after one stage, run in this thread."""
    return driven(apply_stage(stage, operator, batch, blocking))


class Doubler(Operator):
    """Doubles numbers, a whole batch at once: one bad record makes the batch raise."""

    def __init__(self):
        self.calls = []

    def process_batch(self, records):
        self.calls.append(len(records))
        return [{"x": record["x"] * 2 + 0} for record in records]


class Flaky(Operator):
    """Fails each record until its third try."""

    def __init__(self):
        self.tries = {}

    def process_batch(self, records):
        outcomes = []
        for record in records:
            tries = self.tries[record["x"]] = self.tries.get(record["x"], 0) + 1
            outcomes.append(record if tries >= 3 else ValueError(f"try {tries}"))
        return outcomes


def test_records_go_on_in_order():
    """A stage that succeeds on everything keeps ids, order and count."""
    batch = applied(Stage("double", Doubler()), Doubler(), batch_of(1, 2, 3))

    assert batch.ids == ["0", "1", "2"]
    assert batch.records == [{"x": 2}, {"x": 4}, {"x": 6}]
    assert batch.failures == []


def test_a_record_that_breaks_its_batch_fails_alone():
    """One bad record of 64 is found by halving, and the other 63 go on."""
    operator = Doubler()
    values = [*range(40), None, *range(23)]

    batch = applied(Stage("double", operator), operator, batch_of(*values))

    assert [failure.id for failure in batch.failures] == ["40"]
    assert (batch.failures[0].stage, batch.failures[0].error) == ("double", "TypeError")
    assert len(batch) == 63
    assert len(operator.calls) <= 2 * 6 + 1


def test_batch_size_bounds_what_the_operator_sees():
    """Ten records at batch_size 4 arrive as 4, 4 and 2."""
    operator = Doubler()

    applied(Stage("double", operator, batch_size=4), operator, batch_of(*range(10)))

    assert operator.calls == [4, 4, 2]


def test_attempts_are_given_to_failed_records_only():
    """With three attempts every flaky record succeeds, in its own place."""
    operator = Flaky()

    batch = applied(Stage("flaky", operator, attempts=3), operator, batch_of(5, 6))

    assert batch.records == [{"x": 5}, {"x": 6}]
    assert operator.tries == {5: 3, 6: 3}


def test_exhausted_attempts_are_told():
    """A record that fails all its tries says how many there were, with the last message."""
    operator = Flaky()

    batch = applied(Stage("flaky", operator, attempts=2), operator, batch_of(5))

    assert (batch.failures[0].attempts, batch.failures[0].message) == (2, "try 2")


def test_dropped_records_are_counted():
    """None drops a record and enters the account as filtered."""
    batch = applied(
        Stage("odd", Filter(lambda r: r["x"] % 2)), Filter(lambda r: r["x"] % 2), batch_of(1, 2, 3)
    )

    assert batch.ids == ["0", "2"]
    assert (batch.num_filtered, batch.num_read) == (1, 3)


def test_expanded_records_get_ids_of_their_own():
    """One record that becomes three is called id/0 to id/2; one that becomes none is dropped."""
    operator = FlatMap(lambda r: [{"x": n} for n in range(r["x"])])

    batch = applied(Stage("split", operator), operator, batch_of(3, 0))

    assert batch.ids == ["0/0", "0/1", "0/2"]
    assert (batch.num_expanded, batch.num_filtered, batch.num_read) == (2, 1, 2)


def test_a_failed_child_remembers_the_record_that_was_read():
    """After an expansion the failure names both the child and the record it came from."""
    batch = applied(
        Stage("split", FlatMap(lambda r: [{"x": 1}, {"x": None}])),
        FlatMap(lambda r: [{"x": 1}, {"x": None}]),
        batch_of(0),
    )

    batch = applied(Stage("double", Doubler()), Doubler(), batch)

    assert [(failure.id, failure.root) for failure in batch.failures] == [("0/1", "0")]


def test_a_function_without_a_return_fails_its_records():
    """A map that returns None must not drop records in silence."""
    batch = applied(Stage("m", Map(lambda r: None)), Map(lambda r: None), batch_of(1))

    assert batch.failures[0].error == "TypeError"
    assert "returned NoneType, not a dict" in batch.failures[0].message


def test_a_coroutine_operator_is_awaited():
    """An async function is called for each record, and its exceptions fail them singly."""

    async def inverse(record):
        return {"x": 1 / record["x"]}

    batch = applied(Stage("inverse", Map(inverse)), Map(inverse), batch_of(2, 0))

    assert batch.records == [{"x": 0.5}]
    assert batch.failures[0].error == "ZeroDivisionError"


def test_a_wrong_number_of_outcomes_stops_the_run():
    """Outcomes that can not be told apart by record are a defect of the operator."""

    class Short(Operator):
        def process_batch(self, records):
            return records[1:]

    with pytest.raises(StopRun, match="returned 1 outcomes for 2 records"):
        applied(Stage("short", Short()), Short(), batch_of(1, 2))


@pytest.mark.parametrize("as_value", [True, False])
def test_stop_run_is_never_a_failed_record(as_value):
    """An operator can end the run from within a batch, by raising or by returning."""

    class Refused(Operator):
        def process_batch(self, records):
            if as_value:
                return [StopRun("key refused")] * len(records)
            raise StopRun("key refused")

    with pytest.raises(StopRun, match="key refused"):
        applied(Stage("refused", Refused(), attempts=5), Refused(), batch_of(1, 2))


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


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.just(ValueError("no")),
            st.dictionaries(st.just("x"), st.integers()),
            st.lists(st.dictionaries(st.just("x"), st.integers()), max_size=3),
            st.just("not a record"),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_every_record_is_accounted_for(outcomes):
    """Whatever an operator says of its records, the account adds up to what came in."""

    class Scripted(Operator):
        def process_batch(self, records):
            return outcomes

    before = batch_of(*outcomes)

    batch = applied(Stage("scripted", Scripted()), Scripted(), before)

    assert batch.num_read == len(outcomes)
    assert len(batch.ids) == len(batch.records)


class SpeechlessError(Exception):
    """Breaks whoever asks what it says, or how often it was tried."""

    def __str__(self):
        raise ValueError("no words")

    @property
    def attempts(self):
        raise RuntimeError("not counted")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SystemExit(7), "SystemExit(7)"),
        (GeneratorExit(), "GeneratorExit()"),
        (SpeechlessError(), "its own message raises ValueError; mend SpeechlessError"),
        (ValueError("x" * 5000), "x" * 2000),
    ],
)
def test_whatever_an_operator_raises_fails_one_record(error, told):
    """An exception of any kind and conduct becomes the failure of the record it came from."""

    def choke(record):
        if record["x"] == 2:
            raise error
        return record

    stage = Stage("choke", Map(choke))
    batch = applied(stage, stage.operator, batch_of(1, 2, 3))

    assert [record["x"] for record in batch.records] == [1, 3]
    (failure,) = batch.failures
    assert (failure.id, failure.error, failure.attempts) == ("1", type(error).__name__, 1)
    assert failure.message == told


def test_ctrl_c_is_no_failure():
    """An interrupt ends the call, whichever record was at work."""

    def interrupted(record):
        raise KeyboardInterrupt

    stage = Stage("wait", Map(interrupted))

    with pytest.raises(KeyboardInterrupt):
        applied(stage, stage.operator, batch_of(1, 2))


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


def test_the_end_of_a_job_calls_off_what_it_waits_for():
    """Tearing down ends a batch that would wait for ever, and its operator hears of it."""
    operator = Meeting(2)
    executor = TaskExecutor(StagePlan((Stage("meet", operator),)))
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
