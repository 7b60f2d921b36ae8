"""What runs on a worker: programs, executors and their end."""

from __future__ import annotations

import pickle
import threading
from types import SimpleNamespace

import pytest

from sage_dask import worker
from sage_dask.errors import PlanError, RunError, SetupError, StopRun
from sage_dask.operators import Map
from sage_dask.plan import StagePlan
from sage_dask.record import Batch, Failure
from sage_dask.scheduling.on_dask.arrivals import Arrivals
from sage_dask.scheduling.on_dask.wire import PLACED
from sage_dask.stage import Operator, Stage
from sage_dask.worker import (
    PROGRAM_LIMIT_BYTES,
    make_program,
    pack,
    prepare,
    release,
    run_task,
    unpack,
)

LOG = []


class Logged(Operator):
    """Notes what is done to it, in the process that does it."""

    def __init__(self, name="op"):
        self.name = name

    def setup(self):
        LOG.append(f"{self.name} up")

    def process_batch(self, records):
        return list(records)

    def teardown(self):
        LOG.append(f"{self.name} down")


class Flaky(Logged):
    """Can not be made ready the first time.

    Not inside its test: cloudpickle would give it a ``LOG`` of its own.
    """

    def setup(self):
        super().setup()
        if len(LOG) == 1:
            raise OSError("no route")


@pytest.fixture(autouse=True)
def executors(monkeypatch):
    """Lend a worker process that has run nothing yet."""
    monkeypatch.setattr(worker, "_executors", {})
    LOG.clear()
    return worker._executors


def task_of(operator):
    """Return a task of one stage."""
    return StagePlan((Stage("only", operator),))


def batch(*ids):
    """Return a packed batch of records that hold their id."""
    return pack(Batch(0, list(ids), [{"id": record_id} for record_id in ids]))


def test_a_batch_keeps_ids_records_and_failures_on_its_way():
    """What is packed on the driver is what the worker unpacks."""
    failures = [Failure("c", "read", "ValueError", "no")]

    packed = pack(Batch(3, ["a", "b"], [{"x": 1}, {"x": 2}], failures))

    assert unpack(packed, 3) == Batch(3, ["a", "b"], [{"x": 1}, {"x": 2}], failures)


def test_a_program_over_the_limit_is_refused():
    """A megabyte that travels with every batch belongs into setup(); just below, it may."""
    small, large = Logged("x" * (PROGRAM_LIMIT_BYTES - 1000)), Logged("x" * PROGRAM_LIMIT_BYTES)

    assert len(make_program(task_of(small), job="j").pickled) <= PROGRAM_LIMIT_BYTES
    with pytest.raises(PlanError, match=r"task 'only' takes 1,\d+,\d+ bytes .* or pass a path"):
        make_program(task_of(large), job="j")


def test_a_program_that_can_not_be_pickled_is_refused():
    """A lock in an operator is told with where to make it."""
    task = task_of(Logged(threading.Lock()))

    with pytest.raises(PlanError, match=r"make connections, locks and open files in setup\(\)"):
        make_program(task, job="j")


def test_jobs_do_not_share_programs():
    """The same stages have a digest per job, so that one job's end does not end the other's."""
    task = task_of(Logged())

    first, again, second = (make_program(task, job=job) for job in ("a", "a", "b"))

    assert first == again
    assert first.digest != second.digest
    assert first.pickled == second.pickled


def test_operators_are_made_ready_once_for_all_batches():
    """The executor, model and all, is kept for the tasks that follow."""
    program = make_program(task_of(Logged()), job="j")

    prepare([program])
    run_task(*program, batch("a"), 0, "layer")
    done = run_task(*program, batch("b"), 1, "layer")

    assert LOG == ["op up"]
    assert (done.index, done.ids) == (1, ["b"])


def test_later_tasks_of_a_chain_take_the_batch_as_it_is():
    """Only the first task unpacks; the others get what the one before returned."""
    double = make_program(task_of(Map(lambda record: {"x": record["x"] * 2})), job="j")
    first = run_task(*double, pack(Batch(5, ["a"], [{"x": 1}])), 5, "layer")

    second = run_task(*double, first, 5, "layer")

    assert second.records == [{"x": 4}]
    assert [timing.node for timing in second.tasks] == ["local", "local"]


def test_a_host_counts_by_its_number(monkeypatch):
    """A worker that is reached by a name is on the node that the scheduler resolves it to."""

    class FakeDaskWorker:
        state = SimpleNamespace(tasks={})
        contact_address = "tcp://localhost:1234"
        startup_information = {}  # noqa: RUF012 - read only

    monkeypatch.setattr(worker, "get_worker", FakeDaskWorker)

    done = run_task(*make_program(task_of(Logged()), job="j"), batch("a"), 0, "layer")

    assert [timing.node for timing in done.tasks] == ["127.0.0.1"]


def test_a_released_program_stays_released():
    """A task that outlives its job's end is dropped; it does not load the model again."""
    program = make_program(task_of(Logged()), job="j")
    run_task(*program, batch("a"), 0, "layer")

    release([program.digest])

    with pytest.raises(RunError, match="the job of this task has ended"):
        run_task(*program, batch("b"), 1, "layer")
    assert LOG == ["op up", "op down"]


def test_a_program_can_be_released_before_it_came():
    """A worker that never saw the job refuses its late tasks as well; twice is once."""
    program = make_program(task_of(Logged()), job="j")

    release([program.digest])
    release([program.digest])

    with pytest.raises(RunError, match="has ended"):
        run_task(*program, batch("a"), 0, "layer")
    assert LOG == []


def test_a_released_program_keeps_no_operator(executors):
    """What stays of a job on a worker is the name of its program."""
    program = make_program(task_of(Logged()), job="j")
    prepare([program])

    release([program.digest])

    assert executors == {program.digest: None}


def test_an_operator_that_can_not_be_let_go_does_not_keep_the_others(caplog):
    """Every program is released and every operator torn down; the failure is told in the log."""

    class Stuck(Logged):
        def teardown(self):
            raise OSError("busy")

    stuck = make_program(StagePlan((Stage("a", Stuck()), Stage("b", Logged("b")))), job="j")
    other = make_program(task_of(Logged("other")), job="j")
    prepare([stuck, other])
    LOG.clear()

    release([stuck.digest, other.digest])

    assert LOG == ["b down", "other down"]
    assert "stage 'a': teardown() raised" in caplog.text


def test_a_set_up_that_fails_can_be_tried_again():
    """A worker on which set-up failed is not stuck with half an operator."""
    program = make_program(task_of(Flaky()), job="j")

    with pytest.raises(
        SetupError, match=r"stage 'only': Flaky\.setup\(\) raised OSError: no route"
    ):
        prepare([program])
    prepare([program])

    assert LOG == ["op up", "op up"]


def test_what_was_hidden_does_not_leave_the_worker():
    """``raise ... from None`` hid a server's answer, and Dask must not pickle it either."""

    class Refused(Operator):
        def process_batch(self, records):
            try:
                raise ValueError("401: bad key sk-secret")
            except ValueError:
                raise StopRun("the key was refused") from None

    program = make_program(task_of(Refused()), job="j")

    with pytest.raises(StopRun) as told:
        run_task(*program, batch("a"), 0, "layer")

    assert told.value.__context__ is None


def test_what_was_hidden_below_a_cause_is_forgotten_too():
    """The chain is followed through causes, which stay."""
    secret, cause = ValueError("sk-secret"), OSError("refused")
    cause.__context__, cause.__suppress_context__ = secret, True

    class Refused(Operator):
        def process_batch(self, records):
            raise StopRun("no use") from cause

    program = make_program(task_of(Refused()), job="j")
    # By value, so that the operator raises this very cause and not an unpickled copy.
    worker._executors[program.digest] = worker.TaskExecutor(task_of(Refused()))

    with pytest.raises(StopRun) as told:
        run_task(*program, batch("a"), 0, "layer")

    assert told.value.__cause__ is cause
    assert cause.__context__ is None


def test_the_scheduler_sees_bytes_alone():
    """A program and a packed batch are opaque: unpickling their tuple imports no user code."""
    program = make_program(task_of(Logged()), job="j")

    digest, pickled, _, packed = pickle.loads(pickle.dumps((*program, batch("a"))))

    assert (type(digest), type(pickled), type(packed)) == (str, bytes, bytes)


def interrupt(record):
    raise KeyboardInterrupt


def test_an_operator_can_not_interrupt_its_worker():
    """What only the user may do, from an operator, ends the run and not the worker's thread."""
    program = make_program(StagePlan((Stage("rude", Map(interrupt)),)), job="j")

    with pytest.raises(StopRun, match="an operator raised KeyboardInterrupt"):
        run_task(*program, Batch(0, ["a"], [{}]), 0, "layer")


def test_a_task_brings_what_it_waited_for_and_what_it_took_beside_its_stages(monkeypatch):
    """What the dispatcher told with it stands in its timing, and its unpacking has a name."""
    told = {"waits": {"node": 1.5}, "reason": "least loaded"}
    task = SimpleNamespace(annotations={PLACED: told})

    class FakeDaskWorker:
        contact_address = "tcp://127.0.0.1:1234"
        startup_information = {}  # noqa: RUF012 - read only
        plugins = {}  # noqa: RUF012 - filled below
        state = SimpleNamespace(tasks={("only-j", 7): task})

    FakeDaskWorker.plugins[Arrivals.name] = arrivals = Arrivals()
    arrivals.setup(FakeDaskWorker())
    monkeypatch.setattr(worker, "get_worker", FakeDaskWorker)

    done = run_task(*make_program(task_of(Logged()), job="j"), batch("a"), 7, "only-j")

    (timing,) = done.tasks
    assert timing.reason == "least loaded"
    assert timing.waits.keys() == {"node", "packing"}
    assert timing.waits["node"] == 1.5


def test_a_task_that_nobody_placed_brings_its_unpacking_alone():
    """Dask's own schedulers tell of no waits."""
    done = run_task(*make_program(task_of(Logged()), job="j"), batch("a"), 0, "only-j")

    assert done.tasks[0].waits.keys() == {"packing"}
    assert done.tasks[0].reason == ""
