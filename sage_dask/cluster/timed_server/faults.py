"""What goes wrong by order: which request meets which fault.

A fault is written as a few words, such as ``503 2`` or ``cut``.  It comes from a
marker ``[[fault:503 2]]`` in the prompt, or from a rule of a script:

    seed: 1
    faults:
      - {fault: "503 2", numbers: [3, 4]}            # the third and fourth request
      - {fault: hang, ids: [q7], tries: 1}           # the first try of one request
      - {fault: refuse, probability: 0.01}
      - {fault: "429 date+3", from_s: 5, until_s: 8}
      - {fault: "down 10", from_s: 30, limit: 1}     # by the first request after 30 s
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import yaml

from sage_dask.errors import PlanError, did_you_mean, listed

KINDS: Mapping[str, str] = {
    "refuse": "the connection is reset",
    "hang": "nothing is sent, for as long as the client waits",
    "hang-during": "half of the answer is sent, and then nothing more",
    "cut": "the connection is reset within the answer",
    "truncated": "the connection is closed within the answer",
    "wrong-json": "status 200 and an answer that is no JSON",
    "empty": "an answer without choices",
    "slow": "FACTOR SECONDS: from now on the server is so much slower for so long",
    "down": "SECONDS: the server is gone for so long, and all connections with it",
    "die": "the server is gone for good",
}
"""Beside these: a status from 400 to 599, and what ``Retry-After`` says: seconds, ``date+3``
for a date in three seconds, or anything else as it is."""

_NUM_ARGUMENTS = {"slow": 2, "down": 1}
_MARKER = re.compile(rb"\[\[fault:([^\]\"\\]{1,100})\]\]")
_TRIES = re.compile(r"\s+x(\d+)$")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    kind: str
    argument: str = ""
    tries: int | None = None
    """It hits only so many tries of a request, counted from the first; None for all of them."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a fault as it is written: kind, argument, and ``x2`` for the first two tries.

        Raises:
            PlanError: There is no such fault, or it needs other numbers.
        """
        tries = _TRIES.search(text)
        kind, _, argument = (text[: tries.start()] if tries else text).strip().partition(" ")
        fault = cls(kind, argument.strip(), int(tries[1]) if tries else None)
        if fault.status is None and kind not in KINDS:
            raise PlanError(
                f"fault {text!r}: no kind {kind!r}; known are {listed(KINDS)} and statuses such "
                f"as '503'{did_you_mean(kind, KINDS)}"
            )
        if len(fault.numbers) != _NUM_ARGUMENTS.get(kind, len(fault.numbers)):
            raise PlanError(f"fault {text!r}: wants numbers: {kind} {KINDS[kind]}")
        return fault

    @property
    def status(self) -> int | None:
        """The status of the answer, where that is the fault."""
        return int(self.kind) if re.fullmatch(r"[45]\d\d", self.kind) else None

    @property
    def numbers(self) -> list[float]:
        """The argument's numbers; none where one of its words is not a positive one."""
        words = self.argument.split()
        is_number = all(re.fullmatch(r"\d+(\.\d+)?", word) for word in words)
        return [float(word) for word in words] if is_number else []


def marked_fault(body: bytes) -> Fault | None:
    """Return the fault that a prompt asks for with a marker.

    Raises:
        PlanError: There is no such fault.
    """
    if b"[[fault:" not in body or not (marker := _MARKER.search(body)):
        return None
    return Fault.parse(marker[1].decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request as far as scripts look at it."""

    name: str
    number: int
    """Ordinal number, from 1."""
    attempt: int
    """How often this request came in, this time included."""
    now_s: float
    """Seconds since the server started or was reset."""


@dataclass(slots=True)
class Rule:
    """A line of a script: all that it names must hold, for the fault to strike."""

    fault: Fault
    numbers: tuple[int, ...] | None = None
    ids: tuple[str, ...] | None = None
    tries: int | None = None
    probability: float = 1.0
    from_s: float = 0.0
    until_s: float = float("inf")
    limit: int | None = None
    """How often it may strike over all."""
    struck: int = 0

    def matches(self, incoming: Incoming) -> bool:
        """Return whether the request is one of those meant, chance apart."""
        tries = self.fault.tries if self.tries is None else self.tries
        return (
            (self.numbers is None or incoming.number in self.numbers)
            and (self.ids is None or incoming.name in self.ids)
            and (tries is None or incoming.attempt <= tries)
            and self.from_s <= incoming.now_s < self.until_s
            and (self.limit is None or self.struck < self.limit)
        )


class FaultScript:
    """Decides by rules, in order, what goes wrong with a request.

    Args:
        rules: The first that strikes counts.
        seed: Of chance; equal histories meet equal faults.
    """

    def __init__(self, rules: list[Rule], seed: int = 0) -> None:
        self.rules = rules
        self._seed = seed

    def choose(self, incoming: Incoming) -> Fault | None:
        """Return the fault of a request, or None if it is to be served."""
        for index, rule in enumerate(self.rules):
            if rule.matches(incoming) and self._chance(index, incoming) < rule.probability:
                rule.struck += 1
                return rule.fault
        return None

    def _chance(self, index: int, incoming: Incoming) -> float:
        """Return a number from 0 to 1 that depends on nothing but seed, rule and request."""
        drawn = random.Random(f"{self._seed}/{index}/{incoming.number}")  # noqa: S311 - no secret
        return drawn.random()


def load_script(script: str | Path | Mapping[str, Any] | None) -> FaultScript:
    """Read a script from a file of JSON or YAML, or from what such a file would hold.

    Raises:
        PlanError: It can not be read, or is no script.
    """
    if script is None:
        return FaultScript([])
    if not isinstance(script, Mapping):
        try:
            script = yaml.safe_load(Path(script).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise PlanError(f"fault script {str(script)!r} can not be read: {error}") from error
    if not isinstance(script, Mapping) or (unknown := set(script) - {"seed", "faults"}):
        found = listed(unknown) if isinstance(script, Mapping) else type(script).__name__
        raise PlanError(f"fault script: found {found}; wants 'seed' and 'faults' at the top")
    return FaultScript([_rule(row) for row in script.get("faults", ())], script.get("seed", 0))


_RULE_WORDS = {each.name for each in fields(Rule)} - {"struck"}


def _rule(row: Any) -> Rule:
    if not isinstance(row, Mapping) or "fault" not in row:
        raise PlanError(f"fault script: {row!r} is no rule; write {{fault: '503 2', limit: 1}}")
    if unknown := set(row) - _RULE_WORDS:
        word = min(map(str, unknown))
        raise PlanError(
            f"fault script: a rule has no {word!r}; it has {listed(_RULE_WORDS)}"
            f"{did_you_mean(word, _RULE_WORDS)}"
        )
    wanted = dict(row)
    for name in ("numbers", "ids"):
        if name in wanted:
            wanted[name] = tuple(wanted[name])
    return Rule(**{**wanted, "fault": Fault.parse(str(row["fault"]))})
