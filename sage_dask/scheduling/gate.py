"""Cluster-wide gates: so many slots per name, whoever holds them.

A gate neither sleeps nor queues.  It counts; the dispatcher asks before it
starts a task and gives the slots back in the event that ends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sage_dask.errors import PlanError
from sage_dask.scheduling.view import EPSILON, Amounts


@dataclass(frozen=True, slots=True)
class GateStatistics:
    """One gate at one moment."""

    limit: float | None
    """Slots there are; None for no limit."""
    held: float


class Gate:
    """Slots of one name.

    The limit may be lowered below what is held: nothing is taken away, and nothing starts until
    enough has come back.
    """

    __slots__ = ("held", "limit", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.limit: float | None = None
        self.held = 0.0

    def has_room(self, slots: float) -> bool:
        """Return whether so many slots are free."""
        return self.limit is None or self.held + slots <= self.limit + EPSILON

    def could_ever(self, slots: float) -> bool:
        """Return whether so many slots are free once all have come back."""
        return self.limit is None or slots <= self.limit + EPSILON

    def __repr__(self) -> str:
        limit = "unlimited" if self.limit is None else f"{self.limit:g}"
        return f"<Gate {self.name!r} {self.held:g}/{limit} held>"


class Gates:
    """All gates by name; one that nobody limited lets everything through and counts."""

    def __init__(self) -> None:
        self._gates: dict[str, Gate] = {}

    def __getitem__(self, name: str) -> Gate:
        gate = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = Gate(name)
        return gate

    def set_limit(self, name: str, limit: float | None) -> None:
        """Change how many slots there are; None removes the limit."""
        if limit is not None and not limit >= 0:
            raise PlanError(
                f"gate {name!r}: a limit of {limit} slots; give 0 to close it, a positive number, "
                "or None for no limit"
            )
        self[name].limit = limit

    def have_room(self, slots: Amounts) -> bool:
        """Return whether all these slots are free."""
        return all(self[name].has_room(number) for name, number in slots)

    def take(self, slots: Amounts) -> None:
        """Hold slots; the caller has asked whether they are free."""
        for name, number in slots:
            self[name].held += number

    def give_back(self, slots: Amounts) -> None:
        """Return slots."""
        for name, number in slots:
            self[name].held -= number

    def drop_unused(self) -> None:
        """Forget gates that nobody limits and nobody holds."""
        self._gates = {
            name: gate
            for name, gate in self._gates.items()
            if gate.limit is not None or gate.held > 0
        }

    def limits(self) -> Mapping[str, float]:
        """Return the limits that are set."""
        return {gate.name: gate.limit for gate in self if gate.limit is not None}

    def statistics(self) -> Mapping[str, GateStatistics]:
        """Return limits and what is held, by name."""
        return {gate.name: GateStatistics(gate.limit, gate.held) for gate in self}

    def __iter__(self) -> Iterator[Gate]:
        return iter(self._gates.values())
