"""Tasks that wait, arranged so that the next one is found without looking at all of them.

Tasks that need the same things stand in one line, in a lane per job.  Whether a
line can move at all is one question for all its tasks; whose turn it is within
the line is the smallest key of its lanes' heads.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from sage_dask.scheduling.jobs import Job
from sage_dask.scheduling.nodes import Pool
from sage_dask.scheduling.policy import Wait
from sage_dask.scheduling.ranked import Ranked
from sage_dask.scheduling.view import Demand, Key, TaskView
from sage_dask.scheduling.waits import QUOTA, ZERO, Reading, WaitClock, minus, plus

# Smallest first: the policy's class, the job's fair share, the place within the job, the order
# of coming.
Order: TypeAlias = tuple[float, float, tuple[Any, ...], int]

# The same within a lane, where all are of one job.
Place: TypeAlias = tuple[float, tuple[Any, ...], int]

# Lines without tasks are kept for the next task of their kind, up to this many.
_SPARE_LINES = 32


class Entry:
    """One task in the queue."""

    __slots__ = ("is_waiting", "lane", "mark", "precedence", "sequence", "task")

    def __init__(self, task: TaskView, precedence: float, sequence: int, lane: Lane) -> None:
        self.task = task
        self.precedence = precedence
        self.sequence = sequence
        self.lane = lane
        self.is_waiting = True
        self.mark: Reading = ZERO
        """The lane's waits when the task came."""

    @property
    def place(self) -> Place:
        """Key within the lane."""
        return self.precedence, self.task.rank, self.sequence


class Lane:
    """The tasks of one job that need the same things.

    They wait for what their line waits for, but while the job itself holds them back.
    """

    __slots__ = ("_apart", "_heap", "_held", "job", "line", "size")

    def __init__(self, job: Job, line: Line) -> None:
        self.job = job
        self.line = line
        self.size = 0
        self._apart: Reading = ZERO
        """What is to be added to the line's waits."""
        self._held: WaitClock | None = None
        """Runs while the job holds the tasks back."""
        # With their places, which are never equal: comparing entries themselves is slow.
        self._heap: list[tuple[Place, Entry]] = []

    def push(self, entry: Entry) -> None:
        """Add a task."""
        heapq.heappush(self._heap, (entry.place, entry))
        self.size += 1

    @property
    def head(self) -> Entry:
        """The task that is first; there must be one."""
        while not self._heap[0][1].is_waiting:
            heapq.heappop(self._heap)
        return self._heap[0][1]

    @property
    def order(self) -> Order:
        """Key of the head among the heads of all lanes."""
        head = self.head
        return head.precedence, self.job.pass_s, head.task.rank, head.sequence

    def waited(self, now_s: float) -> Reading:
        """Return what tasks here have waited for; only differences mean anything."""
        if self._held is None and self._apart is ZERO:
            # As nearly always; this is asked twice for each task.
            return self.line.clock.read(now_s)
        clock = self.line.clock if self._held is None else self._held
        return plus(clock.read(now_s), self._apart)

    def hold_back(self, is_held: bool, now_s: float) -> None:
        """Note whether the job itself holds its tasks back from now on."""
        if is_held == (self._held is not None):
            return
        so_far = self.waited(now_s)
        self._held = None
        if is_held:
            self._held = WaitClock()
            self._held.turn(QUOTA, now_s)
        clock = self.line.clock if self._held is None else self._held
        self._apart = minus(so_far, clock.read(now_s))

    def __iter__(self) -> Iterator[Entry]:
        return (entry for _, entry in self._heap)

    def shrink(self) -> None:
        """Forget tasks that do not wait any more, once they are more than those that do."""
        if len(self._heap) > 2 * self.size:
            self.reset([entry for entry in self if entry.is_waiting])

    def reset(self, entries: list[Entry]) -> None:
        """Hold these tasks, and no others."""
        self._heap = [(entry.place, entry) for entry in entries]
        heapq.heapify(self._heap)


class Line:
    """All tasks that need the same things."""

    def __init__(self, demand: Demand, pool: Pool) -> None:
        self.demand = demand
        self.pool = pool
        self.lanes = Ranked()
        """Jobs whose next task may go, by the order of that task."""
        self.by_job: dict[str, Lane] = {}
        """All lanes, also those that may not move."""
        self.size = 0
        self.stages: Counter[str] = Counter()
        self.wait: Wait | None = None
        """What the policy said in this round, where it chose to wait."""
        self.blocked_since_s: float | None = None
        """Since when its turn has come and others are in the way."""
        self.impossible_since_s: float | None = None
        """Since when nothing in the cluster could ever take such a task."""
        self.is_reported = False
        self.clock = WaitClock()
        """What its tasks wait for."""

    @property
    def above_quota(self) -> list[Job]:
        """Jobs whose tasks here need more than the job may ever hold."""
        return [
            lane.job
            for lane in self.by_job.values()
            if lane.size and not lane.job.could_ever_hold(self.demand)
        ]

    @property
    def head(self) -> Entry:
        """The first task of all that may go; there must be one."""
        return self.by_job[self.lanes.first].head


class Queue:
    """All tasks that wait."""

    def __init__(self, pool: Callable[[Demand], Pool]) -> None:
        self._pool = pool
        self._entries: dict[Key, Entry] = {}
        self._lines: dict[Demand, Line] = {}
        self._lanes: defaultdict[str, dict[Demand, Lane]] = defaultdict(dict)
        self._sequence = itertools.count()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __getitem__(self, key: Key) -> Entry:
        return self._entries[key]

    def get(self, key: Key) -> Entry | None:
        """Return a task's entry; None where it does not wait."""
        return self._entries.get(key)

    @property
    def lines(self) -> Mapping[Demand, Line]:
        """All lines, also those where nobody stands."""
        return self._lines

    def entries(self) -> Iterator[Entry]:
        """Yield all tasks, in the order in which they came."""
        return iter(self._entries.values())

    def push(self, task: TaskView, precedence: float, job: Job) -> Entry:
        """Add a task at its place."""
        lanes = self._lanes[job.name]
        lane = lanes.get(task.demand)
        if lane is None:
            line = self._line(task.demand)
            lane = lanes[task.demand] = line.by_job[job.name] = Lane(job, line)
        entry = Entry(task, precedence, next(self._sequence), lane)
        self._entries[task.key] = entry
        lane.push(entry)
        line = lane.line
        line.size += 1
        line.stages[task.stage] += 1
        job.num_queued += 1
        if lane.head is entry:
            self.reorder(job)
        return entry

    def remove(self, key: Key) -> Entry:
        """Take a task out; it starts, or nobody wants it any more."""
        entry = self._entries.pop(key)
        entry.is_waiting = False
        lane, task = entry.lane, entry.task
        lane.size -= 1
        lane.shrink()
        lane.job.num_queued -= 1
        line = lane.line
        line.size -= 1
        line.stages[task.stage] -= 1
        if not line.stages[task.stage]:
            del line.stages[task.stage]
        if not line.size:
            line.blocked_since_s = None
        self.reorder(lane.job)
        return entry

    def reorder(self, job: Job) -> None:
        """Put a job's lanes where its pass says they belong; out of it while they may not move."""
        lanes = self._lanes.get(job.name, {}).values()
        held_back = self._held_back(job) if job.is_restricted else ()
        for lane in lanes:
            if lane.size and lane not in held_back:
                lane.line.lanes.put(job.name, lane.order)
            else:
                lane.line.lanes.discard(job.name)

    def _held_back(self, job: Job) -> list[Lane]:
        """Return the lanes that a job's own quota holds back.

        What one of them is short of is left to it by those behind it in the job's own order, or
        small tasks would keep a big one waiting for ever.
        """
        held_back: list[Lane] = []
        short: set[str] = set()
        waiting = [lane for lane in self._lanes[job.name].values() if lane.size]
        if job.is_paused:
            return waiting
        for lane in sorted(waiting, key=lambda lane: lane.head.place):
            demand = lane.line.demand
            lacking = job.above_quota(demand)
            if lacking or any(name in short for name, _ in demand.amounts):
                held_back.append(lane)
            if lacking and job.could_ever_hold(demand):
                short.update(lacking)
        return held_back

    def rebuild(self, precedence: Callable[[TaskView], float]) -> None:
        """Order all tasks anew, such as by another policy."""
        for lanes in self._lanes.values():
            for lane in lanes.values():
                waiting = [entry for entry in lane if entry.is_waiting]
                for entry in waiting:
                    entry.precedence = precedence(entry.task)
                lane.reset(waiting)
        for lanes in self._lanes.values():
            for job in {lane.job for lane in lanes.values()}:
                self.reorder(job)

    def may_move(self, lane: Lane) -> bool:
        """Return whether the job's quota lets a lane's next task go."""
        return lane.size > 0 and lane not in self._held_back(lane.job)

    def lanes_of(self, job: str) -> Iterable[Lane]:
        """Return all lanes of a job."""
        return self._lanes.get(job, {}).values()

    def drop_job(self, name: str) -> None:
        """Forget the lanes of a job that has no tasks left."""
        for lane in self._lanes.pop(name, {}).values():
            del lane.line.by_job[name]

    def _line(self, demand: Demand) -> Line:
        line = self._lines.get(demand)
        if line is None:
            line = self._lines[demand] = Line(demand, self._pool(demand))
        return line

    def drop_spare_lines(self) -> None:
        """Forget lines where nobody stands, if many; a job may come with ever new ones."""
        empty = [line for line in self._lines.values() if not line.size]
        for line in empty[: max(0, len(empty) - _SPARE_LINES)]:
            for job in line.by_job:
                del self._lanes[job][line.demand]
            del self._lines[line.demand]
