"""An operator that works in subprocesses: answers, culprits, setting up, letting go."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import cloudpickle
import psutil
import pytest

from sage_dask.deadline import DeadlineError
from sage_dask.errors import PlanError, SetupError, StopRun
from sage_dask.fault import fault_of
from sage_dask.isolation.isolated import Isolated, ProcessDiedError
from sage_dask.stage import Operator, Stage

# Subprocesses can not import tests.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


def subprocesses():
    """Return the subprocesses of isolated stages in which anything of this process works."""
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if any(part.endswith("bootstrap.py") for part in process.cmdline())
    ]


class Obeying(Operator):
    """Does what records say; notes in a file what happens to it."""

    def __init__(self, notes=None, **conduct):
        self.notes = notes
        self.conduct = conduct

    def _behave(self, when):
        if self.notes is not None:
            with self.notes.open("a") as notes:
                notes.write(f"{when}\n")
        if when in self.conduct:
            self.conduct[when]()

    def setup(self):
        self._behave("setup")

    def process_batch(self, records):
        return [record["do"](record) for record in records]

    def teardown(self):
        self._behave("teardown")


class UnreadableError(Exception):
    """Can be pickled, but not read back."""

    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")


def raising(error):
    """Return what raises an error."""

    def action(*_):
        raise error

    return action


@pytest.fixture
def isolate():
    """Lend what makes operators ready, tear them down afterwards, and see that none is left."""
    made = []

    def ready(operator=None, deadline_s=None):
        stage = Stage("work", operator or Obeying(), isolate=True, deadline_s=deadline_s)
        isolated = Isolated(stage)
        isolated.setup()
        made.append(isolated)
        return isolated

    yield ready
    for isolated in made:
        isolated.teardown()
    assert subprocesses() == []


def done(isolated, *actions):
    """Return what became of one record per action."""
    return isolated.process_batch([{"do": action} for action in actions])


def where(record):
    """Return the process that works on a record."""
    return {"pid": os.getpid()}


def test_outcomes_come_back_as_they_were(isolate):
    """Records, drops and expansions are those of the operator; failures keep their words."""
    *plain, failed = done(
        isolate(),
        lambda record: {"x": (1, b"2")},
        lambda record: None,
        lambda record: [{"x": 1}, {"x": 2}],
        lambda record: UnreadableError(503, "busy"),
    )

    assert plain == [{"x": (1, b"2")}, None, [{"x": 1}, {"x": 2}]]
    assert fault_of(failed)[:2] == ("UnreadableError", "503: busy")


@pytest.mark.parametrize(
    ("error", "arguments"), [(ValueError, ["no"]), (SystemExit, [4]), (UnreadableError, [1, "no"])]
)
def test_what_is_raised_keeps_its_words_and_the_process(isolate, error, arguments):
    """An exception fails the call as in this process, and the subprocess goes on."""
    isolated = isolate()
    before = done(isolated, where)

    with pytest.raises(Exception) as caught:
        done(isolated, lambda record: raising(error(*arguments))())

    assert fault_of(caught.value) == fault_of(error(*arguments))
    assert done(isolated, where) == before


@pytest.mark.parametrize("error", [StopRun("key refused"), KeyboardInterrupt()])
def test_orders_to_stop_come_through(isolate, error):
    """What ends a run ends it from a subprocess, too."""
    isolated = isolate()

    with pytest.raises(type(error)):
        done(isolated, raising(error))


def test_what_can_not_be_sent_fails_alone(isolate):
    """An outcome that can not be pickled leaves the others of its call as they are."""
    kept, failed = done(isolate(), lambda record: {"x": 1}, lambda record: {"x": threading.Lock()})

    assert kept == {"x": 1}
    assert "can not be sent from the stage's subprocess" in fault_of(failed).message


def test_a_crash_is_told_and_another_process_goes_on(isolate):
    """A segmentation fault ends the call with its signal; the next one has a new process."""
    isolated = isolate()
    (before,) = done(isolated, where)

    with pytest.raises(ProcessDiedError, match=r"stage 'work': .* died with signal 11 \(SIGSEGV\)"):
        done(isolated, where, lambda record: ctypes.string_at(0))

    assert done(isolated, where) != [before]


def test_a_deadline_is_told_and_another_process_goes_on(isolate):
    """What takes too long is killed; the next call has a new process."""
    isolated = isolate(deadline_s=1.0)
    (before,) = done(isolated, where)

    with pytest.raises(DeadlineError, match=r"stage 'work': not finished within deadline_s=1\.0"):
        done(isolated, where, lambda record: signal.pause())

    assert done(isolated, where) != [before]


def test_the_time_to_set_up_counts_for_nobody(isolate, tmp_path):
    """A record whose process has to be made first still has its whole deadline."""

    class Slow(Obeying):
        def setup(self):
            super().setup()
            # Longer than the deadline, and no sleep of a test: of the model that it stands for.
            threading.Event().wait(0.6)

    isolated = isolate(Slow(), deadline_s=0.5)

    with pytest.raises(DeadlineError):
        done(isolated, lambda record: signal.pause())

    assert len(done(isolated, where)) == 1


def test_a_process_that_died_idle_costs_no_record(isolate):
    """One that the kernel took between two batches is replaced before the next."""
    isolated = isolate()
    (before,) = done(isolated, where)
    process = psutil.Process(before["pid"])
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

    assert done(isolated, where) != [before]


def test_threads_have_a_process_each_and_share_it_afterwards(isolate, tmp_path):
    """Two calls at once work in two processes, and calls one after the other in one."""
    notes = tmp_path / "notes"
    isolated = isolate(Obeying(notes))
    (tmp_path / "0").touch()

    def meet(number):
        def action(record):
            (tmp_path / number).touch()
            while not ((tmp_path / "a").exists() and (tmp_path / "b").exists()):
                pass
            return where(record)

        return action

    with ThreadPoolExecutor(2) as pool:
        (first,), (second,) = pool.map(lambda n: done(isolated, meet(n)), "ab")
    later = [done(isolated, where)[0] for _ in range(5)]

    assert first != second
    assert later[0] in (first, second)
    assert later == [later[0]] * 5
    assert notes.read_text().split() == ["setup", "setup"]


def test_each_process_tears_down_once(tmp_path):
    """What was set up is torn down in the process that has it."""
    notes = tmp_path / "notes"
    isolated = Isolated(Stage("work", Obeying(notes), isolate=True))
    isolated.setup()
    done(isolated, where)

    isolated.teardown()

    assert notes.read_text().split() == ["setup", "teardown"]
    assert subprocesses() == []


def test_a_teardown_that_raises_is_told():
    """The exception arrives here, and the process is gone all the same."""
    isolated = Isolated(Stage("work", Obeying(teardown=raising(ValueError("leak")))))
    isolated.setup()

    with pytest.raises(Exception, match="ValueError: leak"):
        isolated.teardown()

    assert subprocesses() == []


def test_a_teardown_that_takes_too_long_is_ended(monkeypatch, caplog):
    """A teardown that hangs is killed and told of."""
    monkeypatch.setattr("sage_dask.isolation.isolated._TEARDOWN_S", 0.3)
    isolated = Isolated(Stage("work", Obeying(teardown=signal.pause)))
    isolated.setup()

    isolated.teardown()

    assert "teardown() of Obeying took longer than 0.3 s" in caplog.text
    assert subprocesses() == []


@pytest.mark.parametrize(
    ("operator", "error", "told"),
    [
        (Obeying(setup=raising(PlanError("no model"))), SetupError, r"^no model$"),
        (Obeying(setup=raising(ValueError("no model"))), Exception, r"^ValueError: no model$"),
        (Obeying(setup=lambda: os._exit(3)), SetupError, "Obeying ended with exit code 3 during"),
        (Obeying(setup=threading.Lock()), PlanError, r"Obeying can not be sent .* in setup\(\)"),
    ],
)
def test_a_set_up_that_fails_says_why(operator, error, told):
    """Refusals keep their words, a crash says how it ended, and no process is left."""
    with pytest.raises(error, match=told):
        Isolated(Stage("work", operator, isolate=True)).setup()

    assert subprocesses() == []


def test_a_process_that_can_not_be_made_again_ends_the_run(isolate, tmp_path):
    """Where set-up worked once and never again, no further record can succeed."""
    flag = tmp_path / "flag"

    def only_once():
        if flag.exists():
            raise ValueError("out of memory")
        flag.touch()

    isolated = isolate(Obeying(setup=only_once))
    with pytest.raises(ProcessDiedError):
        done(isolated, lambda record: os._exit(1))

    with pytest.raises(StopRun, match=r"stage 'work': a further subprocess .*: out of memory"):
        done(isolated, where)
