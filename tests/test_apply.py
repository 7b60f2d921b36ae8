"""One stage on one batch: outcomes, culprits, deadlines, accounts."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.apply import apply_stage, blocking
from sage_dask.deadline import GivenUpError
from sage_dask.errors import StopRun
from sage_dask.execute import driven
from sage_dask.operators.basic import Filter, FlatMap, Map
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
    """None drops a record, whose id enters the account as filtered."""
    batch = applied(
        Stage("odd", Filter(lambda r: r["x"] % 2)), Filter(lambda r: r["x"] % 2), batch_of(1, 2, 3)
    )

    assert batch.ids == ["0", "2"]
    assert (batch.filtered, batch.num_read) == (["1"], 3)


def test_expanded_records_get_ids_of_their_own():
    """One record that becomes three is called id/0 to id/2; one that becomes none is dropped."""
    operator = FlatMap(lambda r: [{"x": n} for n in range(r["x"])])

    batch = applied(Stage("split", operator), operator, batch_of(3, 0))

    assert batch.ids == ["0/0", "0/1", "0/2"]
    assert (batch.num_expanded, batch.filtered, batch.num_read) == (2, ["1"], 2)


@pytest.mark.parametrize("nothing", [None, []])
def test_a_dropped_child_is_counted_under_the_record_that_was_read(nothing):
    """What an expansion made and a later stage drops enters the account by the id as read."""
    split = FlatMap(lambda r: [{"x": 1}, {"x": 2}])
    batch = applied(Stage("split", split), split, batch_of(0))
    drop = FlatMap(lambda r: nothing) if nothing == [] else Filter(lambda r: False)

    batch = applied(Stage("drop", drop), drop, batch)

    assert batch.filtered == ["0", "0"]
    assert batch.num_read == 1


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


class Refusing(Operator):
    """Gives up on any call with a culprit in it, as one that was killed at its deadline."""

    def __init__(self, culprits):
        self.culprits = culprits
        self.calls = []

    def process_batch(self, records):
        self.calls.append(len(records))
        if any(record["x"] in self.culprits for record in records):
            raise GivenUpError("killed")
        return records


@given(st.integers(1, 40), st.sets(st.integers(0, 39)))
def test_a_call_that_was_given_up_is_repeated_record_by_record(size, culprits):
    """Each culprit costs one more call that is given up, and nobody else fails."""
    operator = Refusing(culprits)
    guilty = sorted(culprits & set(range(size)))

    batch = applied(Stage("refuse", operator), operator, batch_of(*range(size)))

    assert [int(failure.id) for failure in batch.failures] == guilty
    assert operator.calls == [size] + [1] * size * bool(guilty and size > 1)


class Stuck(Operator):
    """Waits for ever where a record says "stuck"."""

    def __init__(self, *, is_deaf=False):
        self.is_deaf = is_deaf
        self.calls = []
        self.num_cancelled = 0
        self.num_waiting = self.most_waiting = 0

    async def process_batch(self, records):
        self.calls.append(len(records))
        if any(record["x"] == "stuck" for record in records):
            self.num_waiting += 1
            self.most_waiting = max(self.most_waiting, self.num_waiting)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.num_waiting -= 1
                self.num_cancelled += 1
                if not self.is_deaf:
                    raise
        return records


@pytest.mark.parametrize("is_deaf", [False, True])
def test_what_waits_too_long_is_cancelled_and_fails_alone(is_deaf):
    """Two of ten fail in two deadlines, also where the operator answers its cancellation."""
    operator = Stuck(is_deaf=is_deaf)
    stage = Stage("ask", operator, deadline_s=0.5)

    batch = applied(stage, operator, batch_of(0, "stuck", 2, 3, "stuck", 5, 6, 7, 8, 9))

    assert [(failure.id, failure.error) for failure in batch.failures] == [
        ("1", "DeadlineError"),
        ("4", "DeadlineError"),
    ]
    assert "stage 'ask'" in batch.failures[0].message
    assert "deadline_s=0.5" in batch.failures[0].message
    assert batch.ids == ["0", "2", "3", "5", "6", "7", "8", "9"]
    assert operator.calls == [10] + [1] * 10
    assert (operator.num_cancelled, operator.most_waiting) == (3, 2)


def test_a_deadline_is_for_each_try():
    """A record that waits for ever has all its tries, and says how many there were."""
    operator = Stuck()
    stage = Stage("ask", operator, deadline_s=0.1, attempts=3)

    batch = applied(stage, operator, batch_of("stuck"))

    assert operator.calls == [1, 1, 1]
    assert batch.failures[0].attempts == 3


def test_an_operators_own_timeout_is_no_deadline():
    """A TimeoutError that the operator raises keeps its name, deadline or not."""

    class Slow(Operator):
        async def process_batch(self, records):
            raise TimeoutError("the server is slow")

    stage = Stage("ask", Slow(), deadline_s=1000)

    batch = applied(stage, stage.operator, batch_of(1))

    assert (batch.failures[0].error, batch.failures[0].message) == (
        "TimeoutError",
        "the server is slow",
    )


def test_stop_run_ends_the_run_also_after_a_deadline():
    """Among records that are tried alone, one can still end the run."""

    class Refused(Stuck):
        async def process_batch(self, records):
            await super().process_batch(records)
            raise StopRun("key refused")

    operator = Refused()

    with pytest.raises(StopRun, match="key refused"):
        applied(Stage("ask", operator, deadline_s=0.2), operator, batch_of("stuck", 2))


class Heard(logging.Handler):
    """Sets an event when something is logged."""

    def __init__(self):
        super().__init__()
        self.messages = []
        self.event = threading.Event()

    def emit(self, record):
        self.messages.append(record.getMessage())
        self.event.set()


@pytest.fixture
def heard():
    """Lend what hears the reports of calls that ignore their deadline."""
    handler = Heard()
    logging.getLogger("sage_dask.deadline").addHandler(handler)
    yield handler
    logging.getLogger("sage_dask.deadline").removeHandler(handler)


def test_a_thread_that_can_not_be_stopped_is_reported_and_its_late_results_fail(heard):
    """A computing call is told of while it runs; the record that made it late fails alone."""

    class Late(Doubler):
        def process_batch(self, records):
            if any(record["x"] == "late" for record in records):
                heard.event.clear()
                assert heard.event.wait(60)
                self.calls.append(len(records))
                return records
            return super().process_batch(records)

    operator = Late()
    stage = Stage("parse", operator, deadline_s=0.5)

    batch = applied(stage, operator, batch_of(1, "late", 3))

    assert batch.records == [{"x": 2}, {"x": 6}]
    (failure,) = batch.failures
    assert (failure.id, failure.error) == ("1", "DeadlineError")
    assert "more than deadline_s=0.5" in failure.message
    assert operator.calls == [3, 1, 1, 1]
    assert [message.partition(" still")[0] for message in heard.messages] == [
        "stage 'parse': a call with 3 records",
        "stage 'parse': a call with 1 record",
    ]
    assert all("isolate=True" in message for message in heard.messages)
