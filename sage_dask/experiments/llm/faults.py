"""What becomes of records when the server fails in every way it can, counted at the server.

Records must all be written or failed, no answer may be paid for twice, and no
request may be sent more often than the rules of repetition allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from sage_dask.errors import StopRun
from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.deaths import deaths
from sage_dask.experiments.llm.load import Load
from sage_dask.experiments.llm.tries import ATTEMPTS, Counts, check, row, run, server
from sage_dask.experiments.table import Row

_NUM_POISONED = 8
_POISONED_WANTED = f"{_NUM_POISONED} failed, 0 twice, <= {ATTEMPTS} each"
# Long for a server that is there.
_MAX_OUTAGE_S = 30.0


@dataclass(frozen=True, slots=True)
class Case:
    """A fault, and how often it strikes."""

    fault: str
    rule: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the operator."""
    is_blamed: bool = True
    """Whether a try that fails so counts against its record."""
    is_final: bool = False
    """Whether a record that it strikes fails at once, and no other."""


def _some(fault: str, probability: float = 0.04, **more: Any) -> Case:
    return Case(fault, {"probability": probability}, **more)


CASES = (
    _some("refuse"),
    _some("hang", options={"first_byte_s": 1.0}),
    _some("hang-during", options={"stream": True, "idle_s": 1.0}),
    _some("hang-during", options={"timeout_s": 2.0}),
    _some("cut"),
    _some("cut", options={"stream": True}),
    _some("truncated"),
    _some("wrong-json"),
    # A whole answer that says nothing is the record's, and not asked for again.
    _some("empty", is_final=True),
    _some("500"),
    _some("429", is_blamed=False),
    _some("429 1", is_blamed=False),
    _some("503 date+1", is_blamed=False),
    _some("503 soon", is_blamed=False),
    Case("slow 4 2", {"limit": 1, "from_s": 0.2}),
    Case("down 3", {"limit": 1, "from_s": 0.2}, is_blamed=False),
)


def faults(bench: Bench) -> Iterator[Row]:
    """Meet each fault in turn, then those of whole processes."""
    for case in CASES:
        yield _row(bench, case)
    yield from _poisoned_rows(bench)
    yield from deaths(bench)


def _row(bench: Bench, case: Case) -> Row:
    said = ", ".join(f"{name}={value}" for name, value in case.options.items())
    name = f"'{case.fault}'" + (f", {said}" if said else "")
    script = {"seed": 1, "faults": [{"fault": case.fault, **case.rule}]}
    with server(script=script) as timed:
        load = Load(endpoints=[timed.endpoint], requests=bench.scale.records, options=case.options)
        result, wrong = run(load)
        counts = Counts.of(timed.ledger())
    check(bench, name, result, counts, wrong, is_blamed=case.is_blamed)
    # A fault that strikes one try in 25 strikes four in a row in one record of 400,000.
    failed = counts.calls - counts.answered if case.is_final else 0
    bench.require(result.failed == failed, f"faults, {name}: {result.failed} records failed")
    most = f"<= {ATTEMPTS} each" if case.is_blamed else "each until it is served"
    return row(name, result, counts, f"0 lost, {failed} failed, 0 twice, {most}")


def _poisoned_rows(bench: Bench) -> Iterator[Row]:
    """Have some records break the answer at every try: they fail, and no others."""
    records, number = bench.scale.records, _NUM_POISONED
    spread = {"poison": "cut", "poison_every": -(-records // number)}
    yield _poisoned_row(bench, f"'cut' at every try of {number} records", spread)
    # With no others beside them, it looks to the circuit breaker as if the server were gone.
    last = {"poison": "cut", "poison_from": records - number}
    yield _poisoned_row(bench, f"'cut' at every try of the last {number}", last)


def _poisoned_row(bench: Bench, name: str, poison: Mapping[str, Any]) -> Row:
    with server() as timed:
        load = Load(
            endpoints=[timed.endpoint],
            requests=bench.scale.records,
            options={"max_outage_s": _MAX_OUTAGE_S},
            **poison,
        )
        try:
            result, wrong = run(load)
        except StopRun as error:
            bench.require(False, f"faults, {name}: the run was stopped: {error}")
            return Row(f"timed server, {name}", "stopped", "", float("nan"), _POISONED_WANTED)
        counts = Counts.of(timed.ledger())
    check(bench, name, result, counts, wrong, is_blamed=True)
    bench.require(result.failed == _NUM_POISONED, f"faults, {name}: {result.failed} records failed")
    return row(name, result, counts, _POISONED_WANTED)
