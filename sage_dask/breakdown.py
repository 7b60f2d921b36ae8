"""Where the latency of a job's records went: parts that add up to it, and the residue.

Driver, scheduler and worker each measure what happens with them, by their own
clocks.  A batch's time away from the driver, less what scheduler and worker say
of it, it was between them.  Batches count by the records they wrote, as the
mean latency does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sage_dask import spent
from sage_dask.events import BatchCommitted, BatchKept, BatchRemembered, JobStarted
from sage_dask.record import StageTiming, TaskTiming

TRANSFER = "transfer"
SETUP = "set-up"
DASK = "dask"
RESIDUE = "residue"

# In the order of a batch's life; stages stand between the two halves.
_BEFORE: Mapping[str, str] = {
    spent.ADMISSION: "reading, packing and handing over",
    spent.SCHEDULING: "until the dispatcher has looked and decided",
    spent.NODE: "waiting for a node with room",
    spent.GATE: "waiting for a gate, or for a model server that is full",
    spent.QUOTA: "waiting for the job's own quota, or paused",
    spent.POLICY: "waiting by policy, or while a place was kept for another",
    DASK: "in Dask's own queue and on the way",
    TRANSFER: "between driver, scheduler and workers",
    spent.INPUTS: "fetching inputs from other workers",
    spent.QUEUE: "on the worker, waiting for a thread",
    SETUP: "making operators ready on workers that joined late",
    spent.PACKING: "unpacking batches, changing threads, seeing that they can travel",
    spent.LOST: "on workers that died",
}
_AFTER: Mapping[str, str] = {
    spent.RETURN: "back, until the driver looked",
    spent.COMMIT: "waiting for its turn in the output, and writing or committing",
}

# Of a stage that asks model servers.
TURN = "slot"
SERVER_QUEUE = "server queue"
FIRST_TOKEN = "first token"  # noqa: S105 - a model's, no secret
GENERATION = "generation"
NETWORK = "network"
ANSWER = "answer"
BACKOFF = "back-off"
REST = "rest of the batch"

_OF_CALLS: Mapping[str, str] = {
    TURN: "waiting to be sent",
    SERVER_QUEUE: "in the server's queue",
    FIRST_TOKEN: "until the server's first token",
    GENERATION: "from the first token to the last",
    NETWORK: "on the way, and in the server's front end",
    ANSWER: "from sending to the last byte, where the server tells no more",
    BACKOFF: "between tries",
    REST: "until the last record of the batch had its answer",
}

_OF_STAGE = "computing, or waiting for answers"
_OF_RESIDUE = "what nobody accounts for"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the latency."""

    name: str
    seconds: float
    """Mean per record that was written."""
    meaning: str
    is_stage: bool = False
    parts: tuple[Part, ...] = ()
    """What it consists of; where there are any, they add up to it."""


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The mean latency of a job's records in parts."""

    num_records: int = 0
    """Records that the parts stand for: those written by versions that measured them."""
    latency_s: float = 0.0
    """Mean from admission to write; the parts add up to it."""
    parts: tuple[Part, ...] = ()

    @property
    def residue_s(self) -> float:
        """What nobody accounts for; negative where more was accounted for than passed."""
        return self.beside_stages(RESIDUE)

    @property
    def residue_share(self) -> float:
        """The residue as a share of the latency; 0.0 where there is none."""
        return self.residue_s / self.latency_s if self.latency_s else 0.0

    def seconds(self, name: str) -> float:
        """Return the mean seconds of a part; 0.0 for one that took none."""
        return next((part.seconds for part in self.parts if part.name == name), 0.0)

    def beside_stages(self, name: str) -> float:
        """Return what ``seconds`` does of a part that is no stage; a stage may bear its name."""
        found = (part.seconds for part in self.parts if part.name == name and not part.is_stage)
        return next(found, 0.0)

    def parts_of(self, stage: str) -> tuple[Part, ...]:
        """Return what a stage consists of; nothing where it asked no model server."""
        return next((part.parts for part in self.parts if part.is_stage and part.name == stage), ())


class BreakdownBuilder:
    """Adds up the parts of batches; its memory grows with stages, not with batches."""

    def __init__(self) -> None:
        self._num_records = 0
        self._latency_s = 0.0
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._stages: dict[str, float] = {}
        self._calls: defaultdict[str, defaultdict[str, float]] = defaultdict(
            lambda: defaultdict(float)
        )
        self._begun: defaultdict[int, list[TaskTiming]] = defaultdict(list)
        """Tasks of batches that were remembered and are not done."""

    def start(self, event: JobStarted) -> None:
        """Begin a start of the job: batches are numbered anew."""
        self._begun.clear()
        for stage in event.stages:
            self._stages.setdefault(stage, 0.0)

    def remember(self, event: BatchRemembered) -> None:
        """Note the tasks of a batch that is to go on."""
        self._begun[event.batch] += event.tasks

    def commit(self, event: BatchCommitted, num_records: int) -> None:
        """Add a batch's parts.

        Args:
            event: Its event; one without ``spent``, of an older version, is left out.
            num_records: Records that it counts for.
        """
        tasks = [*self._begun.pop(event.batch, ()), *event.tasks]
        if not event.spent or not num_records:
            return
        self._num_records += num_records
        self._latency_s += event.latency_s * num_records
        for name, seconds in _parts(event.spent, tasks).items():
            self._sums[name] += seconds * num_records
        for task in tasks:
            for timing in task.stages:
                self._add_stage(timing, num_records)

    def keep(self, event: BatchKept, num_records: int) -> None:
        """Add what the commit of a batch took."""
        self._latency_s += event.commit_s * num_records
        self._sums[spent.COMMIT] += event.commit_s * num_records

    def breakdown(self) -> Breakdown:
        """Return the means so far."""
        if not self._num_records:
            return Breakdown()
        return Breakdown(self._num_records, self._mean(self._latency_s), tuple(self._named()))

    def _add_stage(self, timing: StageTiming, num_records: int) -> None:
        stage = timing.stage
        self._stages[stage] = self._stages.get(stage, 0.0) + timing.seconds * num_records
        calls = timing.calls
        if calls is None or not calls.calls or not timing.records_in:
            return
        # One call may be for several records, each of which waits for all of it.
        share = num_records / min(calls.calls, timing.records_in)
        # Where all calls were told of, the rest of the time was on the way.
        untold_s = calls.sent_s - calls.told_sent_s if calls.told < calls.calls else 0.0
        told_s = calls.queue_s + calls.first_token_s + calls.generation_s
        seconds = {
            TURN: calls.turn_s,
            SERVER_QUEUE: calls.queue_s,
            FIRST_TOKEN: calls.first_token_s,
            GENERATION: calls.generation_s,
            NETWORK: calls.sent_s - untold_s - told_s,
            ANSWER: untold_s,
            BACKOFF: calls.backoff_s,
        }
        for name, value in seconds.items():
            self._calls[stage][name] += value * share

    def _named(self) -> Iterator[Part]:
        for name, meaning in _BEFORE.items():
            if self._sums[name]:
                yield Part(name, self._mean(self._sums[name]), meaning)
        for stage, seconds in self._stages.items():
            parts = tuple(self._named_calls(stage))
            yield Part(stage, self._mean(seconds), _OF_STAGE, is_stage=True, parts=parts)
        residue_s = self._latency_s - sum(self._sums.values()) - sum(self._stages.values())
        for name, meaning in _AFTER.items():
            yield Part(name, self._mean(self._sums[name]), meaning)
        yield Part(RESIDUE, self._mean(residue_s), _OF_RESIDUE)

    def _named_calls(self, stage: str) -> Iterator[Part]:
        calls = self._calls.get(stage)
        if not calls:
            return
        rest = self._stages[stage] - sum(calls.values())
        for name, meaning in _OF_CALLS.items():
            seconds = rest if name == REST else calls[name]
            if seconds:
                yield Part(name, self._mean(seconds), meaning)

    def _mean(self, seconds: float) -> float:
        return seconds / self._num_records


def explained() -> Sequence[tuple[str, str]]:
    """Return the names that parts can have, and what they mean, in the order of a batch's life.

    Stages stand as ``"STAGE"``, and their own parts behind them, indented by two blanks.
    """
    of_calls = [(f"  {name}", meaning) for name, meaning in _OF_CALLS.items()]
    stage = [("STAGE", _OF_STAGE), *of_calls]
    return [*_BEFORE.items(), *stage, *_AFTER.items(), (RESIDUE, _OF_RESIDUE)]


def _parts(driver: Mapping[str, float], tasks: Sequence[TaskTiming]) -> Mapping[str, float]:
    """Return one batch's seconds by part, as far as they have a name, but for its stages."""
    parts = defaultdict(float, driver)
    away_s, here_s = parts.pop(spent.AWAY, 0.0), parts.pop(spent.HERE, 0.0)
    known_s = 0.0
    for task in tasks:
        waits = {**task.waits, SETUP: task.setup_seconds}
        for name, seconds in waits.items():
            parts[name] += seconds
        known_s += task.seconds + sum(waits.values())
    if away_s + here_s > known_s:
        parts[_between(tasks, is_here=not away_s)] += away_s + here_s - known_s
    return parts


def _between(tasks: Sequence[TaskTiming], *, is_here: bool) -> str:
    """Return what to call the time that neither driver nor scheduler nor worker accounts for."""
    if is_here:
        return spent.PACKING
    is_dispatched = any(name in task.waits for task in tasks for name in spent.SCHEDULER_WAITS)
    return TRANSFER if is_dispatched else DASK
