from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass, field

import pytest

from sage_dask.errors import SetupError
from sage_dask.operators.shared import Declared, ProcessCache, faults_apart, ready, text_fault


@dataclass
class FakeStage(Declared):
    size: int = 3
    _lock: object = field(init=False, repr=False, compare=False, default=None)


def test_only_the_declaration_travels():
    """An operator that was set up pickles as if it had not been."""
    stage = FakeStage(size=7)
    stage._lock = threading.Lock()

    arrived = pickle.loads(pickle.dumps(stage))

    assert arrived == stage
    assert arrived._lock is None


def test_ready_names_the_operator_that_was_not_set_up():
    """Using an operator before setup says which one and what to call."""
    with pytest.raises(SetupError, match=r"FakeStage .* call setup\(\)"):
        ready(None, FakeStage())


def test_eight_threads_make_one_thing():
    """Threads that ask while a thing is being made wait for that one."""
    cache: ProcessCache[object] = ProcessCache()
    made = []
    together = threading.Barrier(8)
    results = []

    def make():
        made.append(threading.get_ident())
        return object()

    def ask():
        together.wait(timeout=10)
        results.append(cache.get("model", make))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)

    assert len(made) == 1
    assert len(results) == 8
    assert len(set(map(id, results))) == 1


def test_a_slow_key_does_not_hold_up_another():
    """Another key can be made while one is still being made."""
    cache: ProcessCache[str] = ProcessCache()

    outer = cache.get("slow", lambda: "after " + cache.get("quick", lambda: "quick"))

    assert outer == "after quick"
    assert len(cache) == 2


def test_what_failed_is_tried_again():
    """A failure is not remembered: the next caller makes the thing."""
    cache: ProcessCache[int] = ProcessCache()

    with pytest.raises(ZeroDivisionError):
        cache.get("key", lambda: 1 // 0)

    assert len(cache) == 0
    assert cache.get("key", lambda: 1) == 1


def test_faulty_records_are_set_apart_in_place():
    """Faults stand where their records stood; the others are worked on in one call."""
    calls = []

    def work(records):
        calls.append(len(records))
        return [{"n": record["n"] * 10} for record in records]

    outcomes = faults_apart(
        [{"n": 1}, {"n": -1}, {"n": 2}],
        lambda record: ValueError("negative") if record["n"] < 0 else None,
        work,
    )

    assert outcomes[0] == {"n": 10}
    assert isinstance(outcomes[1], ValueError)
    assert outcomes[2] == {"n": 20}
    assert calls == [2]


def test_no_sound_record_means_no_work():
    """The work is not called with nothing to do."""
    outcomes = faults_apart([{}], lambda _: ValueError("bad"), lambda _: pytest.fail("called"))

    assert [type(outcome) for outcome in outcomes] == [ValueError]


@pytest.mark.parametrize(
    ("record", "found"), [({}, "no such field"), ({"q": " \n"}, "empty"), ({"q": 3}, "int")]
)
def test_what_is_no_text_says_what_was_found(record, found):
    """Missing, empty and foreign values are told apart in the message."""
    fault = text_fault(record, "q", FakeStage())

    assert found in str(fault)
    assert text_fault({"q": "why?"}, "q", FakeStage()) is None
