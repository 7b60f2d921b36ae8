"""How well an adaptive limit finds what a server takes, in simulated time.

Beside it stands the best of several fixed limits, which nobody knows beforehand.
Run it with ``make bench BENCH=gate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from sage_dask.experiments.simulated_server import Server, Shape
from sage_dask.experiments.simulated_traffic import Client, Event, Run
from sage_dask.experiments.table import Row
from sage_dask.scheduling.adaptive import AdaptiveLimit

# Requests of 400 ± 100 ms: 20 ± 5 steps of 20 ms.
BENCH = Shape(seats=64)

# A server with room for 256, whose KV cache is full at about 45.
KV_BOUND = Shape(
    seats=256,
    step_per_sequence_s=0.0005,
    prefill_per_token_s=2e-5,
    kv_tokens=45 * 300,
    tokens=(200, 60),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A server, and what its limit should be."""

    name: str
    shape: Shape
    seats: int
    seconds: int = 120


CASES = (
    Case("4 seats", Shape(seats=4), 4),
    Case("16 seats", Shape(seats=16), 16),
    Case("64 seats", BENCH, 64),
    Case("256 seats", Shape(seats=256), 256),
    Case("KV cache for 45 of 256 seats", KV_BOUND, 45, 240),
    Case("16 seats, answers of 10 s", Shape(seats=16, tokens=(500, 100)), 16, 240),
    Case("64 seats, answers of 5 steps", Shape(seats=64, tokens=(5, 1)), 64),
)

_FIXED = (0.8, 0.9, 1.0, 1.05, 1.1, 1.25, 1.5)
"""Fixed limits beside it, as multiples of the seats."""


@dataclass(frozen=True, slots=True)
class Steady:
    """Averages over the second half of a run."""

    tokens_per_s: float
    waiting: float
    slots: tuple[float, ...]
    """Of each client."""

    @property
    def total(self) -> float:
        """Slots of all clients."""
        return sum(self.slots)

    @property
    def jain(self) -> float:
        """Jain's index of fairness: 1.0 where all have the same."""
        return self.total**2 / (len(self.slots) * sum(number**2 for number in self.slots))


def adaptive_run(
    shape: Shape,
    seconds: int,
    *,
    starts_s: Sequence[float] = (0.0,),
    gauge_age_s: float = 0.0,
    events: Sequence[Event] = (),
) -> Run:
    """Simulate clients that each find their limit on one server."""
    clients = [Client(AdaptiveLimit(), start_s, gauge_age_s) for start_s in starts_s]
    return Run(Server(shape), clients, events).until(seconds)


def steady(run: Run) -> Steady:
    """Return averages over the second half of a run."""
    seconds = run.seconds[len(run.seconds) // 2 :]
    return Steady(
        mean(second.tokens for second in seconds),
        mean(second.waiting for second in seconds),
        tuple(mean(slots) for slots in zip(*(second.slots for second in seconds), strict=True)),
    )


def wall_s(limit: AdaptiveLimit | float, requests: int = 5_000) -> float:
    """Return how long so many requests of 400 ± 100 ms take on 64 seats, from the start."""
    return Run(Server(BENCH), [Client(limit)], requests=requests).until(1_000).now_s


def recovery_s(run: Run, ended_s: int) -> float:
    """Return the seconds from the end of a disturbance until the server is as busy as before."""
    tokens = [second.tokens for second in run.seconds]
    usual = mean(tokens[ended_s - 30 : ended_s - 10])
    recovered = (
        second
        for second in range(ended_s, len(tokens) - 3)
        if mean(tokens[second : second + 3]) >= 0.95 * usual
    )
    return float(next(recovered, len(tokens)) - ended_s)


def slowdown(factor: float) -> Sequence[Event]:
    """Return a brown-out of ten seconds in which each step takes so many times longer."""
    return [
        (60.0, lambda server: _set(server, slowdown=factor)),
        (70.0, lambda server: _set(server, slowdown=1.0)),
    ]


def fewer_seats(seats: int) -> Sequence[Event]:
    """Return a brown-out of ten seconds in which only so many seats are left."""
    return [
        (60.0, lambda server: _set(server, seats=seats)),
        (70.0, lambda server: _set(server, seats=server.shape.seats)),
    ]


def outage() -> Sequence[Event]:
    """Return ten seconds without a server."""
    return [
        (60.0, lambda server: _set(server, is_down=True)),
        (70.0, lambda server: _set(server, is_down=False)),
    ]


def _set(server: Server, **state: object) -> None:
    for name, value in state.items():
        setattr(server, name, value)


def gate() -> Iterator[Row]:
    """Measure the adaptive limit on all servers."""
    yield _wall_row()
    for case in CASES:
        yield _found_row(case)
    yield _found_row(CASES[2], gauge_age_s=1.0)
    yield _fair_row("2 limits on 64 seats", [0.0, 0.37], 0.95)
    yield _fair_row("2 limits, one 60 s later", [0.0, 60.0], 0.95)
    yield _fair_row("8 limits on 64 seats", [0.37 * number for number in range(8)], 0.9)
    yield _recovery_row("4 x slower for 10 s", slowdown(4), 15)
    yield _recovery_row("a quarter of the seats for 10 s", fewer_seats(16), 15)
    yield _recovery_row("no server for 10 s", outage(), 40)


def _wall_row() -> Row:
    found_s, ideal_s = wall_s(AdaptiveLimit()), 5_000 * 0.4 / 64
    known_s = min(wall_s(limit) for limit in (64, 67, 70))
    return Row(
        "5,000 requests of 0.4 s on 64 seats, from the start",
        f"{found_s:.1f} s ({known_s:.1f} s with the limit known)",
        f"{ideal_s:.2f} s ideal",
        found_s / ideal_s,
        "<= 1.05",
    )


def _found_row(case: Case, gauge_age_s: float = 0.0) -> Row:
    found = steady(adaptive_run(case.shape, case.seconds, gauge_age_s=gauge_age_s))
    best, limit = max(
        (steady(Run(Server(case.shape), [Client(limit)]).until(case.seconds)).tokens_per_s, limit)
        for limit in (int(part * case.seats) for part in _FIXED)
    )
    return Row(
        case.name + (f", gauges {gauge_age_s:g} s old" if gauge_age_s else ""),
        f"limit {found.total:.1f}, {found.waiting:.1f} waiting",
        f"{found.tokens_per_s / best:.3f} of the best fixed ({limit})",
        found.total / case.seats,
        f"0.9 to 1.1, <= {0.1 * case.seats + 4:.1f} waiting",
    )


def _fair_row(what: str, starts_s: Sequence[float], wanted: float) -> Row:
    found = steady(adaptive_run(BENCH, 240, starts_s=starts_s))
    return Row(
        what,
        f"{min(found.slots):.1f} to {max(found.slots):.1f} slots",
        f"{found.waiting:.1f} waiting",
        found.jain,
        f">= {wanted} (Jain's index)",
    )


def _recovery_row(what: str, events: Sequence[Event], wanted_s: float) -> Row:
    run = adaptive_run(BENCH, 140, events=events)
    seconds = recovery_s(run, ended_s=70)
    return Row(
        what,
        f"busy again after {seconds:.0f} s",
        f"{sum(client.num_failed for client in run.clients)} requests sent again",
        seconds / wanted_s,
        f"<= {wanted_s:.0f} s",
    )
