"""A run on a server that fails, and what the server's ledger says of it afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sage_dask.cluster.timed_server import TimedServerProcess
from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.load import Load
from sage_dask.experiments.llm.result import Result
from sage_dask.experiments.table import Row
from sage_dask.operators import Collect

ATTEMPTS = 4
"""Tries of a record that may fail by its own fault; the operator's default."""

# The retry budget of a process: ten, and a tenth of its successes.
_FREE_RETRIES, _RETRIES_PER_ANSWER = 10, 0.1

SEATS = 32
BEHAVIOUR: Mapping[str, Any] = {
    "seats": SEATS,
    "latency_s": 0.05,
    "jitter_s": 0.02,
    # Then an answer that went to another record can be told.
    "echo": True,
    "answer_tokens": 16,
}


def server(**fields: Any) -> TimedServerProcess:
    """Return a server, to be used in ``with``."""
    return TimedServerProcess(**BEHAVIOUR, **fields)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a server's ledger says of the calls that it was sent, over all their tries."""

    calls: int
    received: int
    answered: int
    most_received: int
    """Of one call."""
    answered_twice: int
    """Calls."""

    @classmethod
    def of(cls, ledger: Mapping[str, Mapping[str, int]]) -> Counts:
        """Add up the tries of each call; a try's name is its call's with a number behind it."""
        received: Counter[str] = Counter()
        answered: Counter[str] = Counter()
        for name, counts in ledger.items():
            call = name.rpartition("-")[0]
            received[call] += counts["received"]
            answered[call] += counts["answered"]
        return cls(
            len(received),
            received.total(),
            answered.total(),
            max(received.values(), default=0),
            sum(number > 1 for number in answered.values()),
        )


def run(load: Load, on: Any = None) -> tuple[Result, int]:
    """Run a load; return what it came to, and how many records got another's answer."""
    sink = Collect()
    report = load.pipeline(sink).run(on)
    return Result.of(report), wrong_answers(sink)


def wrong_answers(sink: Collect) -> int:
    """Return how many records hold what is not their own prompt, which the server echoes."""
    return sum(not record["prompt"].startswith(record["answer"]) for record in sink.records)


def check(
    bench: Bench, name: str, result: Result, counts: Counts, wrong: int, *, is_blamed: bool
) -> None:
    """Note the run, and see that it kept the rules.

    Args:
        bench: Takes the run, and what is wrong with it.
        name: Of the fault.
        result: What the run came to.
        counts: By the server's ledger.
        wrong: Records with another's answer.
        is_blamed: Whether failed tries count against records and the retry budget.
    """
    bench.note_run("faults", name, result, counts=counts, wrong=wrong, seed=1)
    rules = {
        f"{wrong} records with another's answer": wrong == 0,
        f"{counts.answered_twice} answered twice": counts.answered_twice == 0,
        f"{counts.calls} calls for {result.read} records": counts.calls == result.read,
        f"{counts.received} received of {result.sent} sent": counts.received <= result.sent,
    }
    if is_blamed:
        allowed = _FREE_RETRIES + _RETRIES_PER_ANSWER * result.written
        rules |= {
            f"a record was sent {counts.most_received} times": counts.most_received <= ATTEMPTS,
            f"{result.retries} retries": result.retries <= allowed,
        }
    for problem, holds in rules.items():
        bench.require(holds, f"faults, {name}: {problem}")


def row(name: str, result: Result, counts: Counts, wanted: str) -> Row:
    """Return the row of a fault; its ratio is of requests at the server to records."""
    return Row(
        f"timed server, {name}",
        f"{result.written} written, {result.failed} failed, {result.lost} lost",
        f"{counts.received} requests, {counts.answered_twice} twice, <= {counts.most_received}",
        counts.received / max(result.read, 1),
        wanted,
    )
