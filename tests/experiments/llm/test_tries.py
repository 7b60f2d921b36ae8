"""What the server's ledger says of calls, and the rules that it must keep."""

from __future__ import annotations

import pytest

from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.load import Load
from sage_dask.experiments.llm.result import Result
from sage_dask.experiments.llm.tries import Counts, check, run, server, wrong_answers
from sage_dask.operators import Collect

GOOD = Counts(calls=10, received=12, answered=10, most_received=3, answered_twice=0)


def a_result(**facts):
    """Return a run of ten records and twelve requests."""
    usual = {"read": 10, "written": 10, "failed": 0, "makespan_s": 1.0, "cpu_s": 0.0}
    return Result(**{**usual, "sent": 12, "retries": 2, **facts})


def entry(received, answered):
    """Return a line of a ledger."""
    return {"received": received, "answered": answered}


def test_tries_of_one_call_are_counted_together():
    """Their names differ in the number at the end."""
    ledger = {"a-1": entry(1, 1), "b-1": entry(1, 0), "b-2": entry(1, 1), "c-1": entry(2, 2)}

    assert Counts.of(ledger) == Counts(3, 5, 4, 2, 1)


def test_a_run_by_the_rules_is_no_problem():
    """Three tries of four that are allowed."""
    bench = Bench()

    check(bench, "fault", a_result(), GOOD, 0, is_blamed=True)

    assert bench.problems == []


@pytest.mark.parametrize(
    ("result", "counts", "wrong"),
    [
        (a_result(written=9), GOOD, 0),
        (a_result(), GOOD, 1),
        (a_result(), Counts(10, 12, 11, 3, 1), 0),
        (a_result(), Counts(9, 12, 10, 3, 0), 0),
        (a_result(), Counts(10, 13, 10, 3, 0), 0),
        (a_result(), Counts(10, 12, 10, 5, 0), 0),
        (a_result(retries=12), GOOD, 0),
    ],
    ids=["lost", "another's", "twice", "never asked", "not sent", "too often", "over budget"],
)
def test_a_run_against_the_rules_is_one_problem(result, counts, wrong):
    """Each rule is broken by itself."""
    bench = Bench()

    check(bench, "fault", result, counts, wrong, is_blamed=True)

    assert len(bench.problems) == 1


def test_a_busy_server_may_be_asked_more_often():
    """Being turned away counts neither against the record nor against the budget."""
    bench = Bench()

    check(bench, "429", a_result(retries=40), Counts(10, 12, 10, 9, 0), 0, is_blamed=False)

    assert bench.problems == []


def test_another_records_answer_is_told():
    """The server echoes each prompt, as far as the answer's length goes."""
    sink = Collect()
    sink.open()
    sink.write("ab", [{"prompt": "one", "answer": "one"}, {"prompt": "two", "answer": "one"}])

    assert wrong_answers(sink) == 1


@pytest.mark.cluster
def test_a_fault_is_met_and_counted_at_the_server():
    """The first try of one request in ten is refused, and every record is written once."""
    script = {"seed": 1, "faults": [{"fault": "500 x1", "probability": 0.1}]}
    with server(script=script) as timed:
        result, wrong = run(Load(endpoints=[timed.endpoint], requests=60))
        counts = Counts.of(timed.ledger())

    assert (result.read, result.written, result.failed, wrong) == (60, 60, 0, 0)
    assert (counts.calls, counts.answered, counts.answered_twice) == (60, 60, 0)
    assert counts.received == result.sent > 60
