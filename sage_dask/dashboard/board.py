"""What a scheduler knows of the jobs on its cluster, as their drivers tell it, over time.

A driver says twice a second how far its job is; the board keeps the latest of
each job, and one point per second of what it did since.  Both are bounded, so a
scheduler that has been up for months holds no more than one that came up today.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sage_dask.sketch import Sketch
from sage_dask.standing import Progress

# Ten minutes at a point a second.
MOST_POINTS = 600

# Jobs that ended, or whose drivers have long said nothing, and are still shown; those that run are
# shown all.
MOST_ENDED = 32

# A driver speaks twice a second, and one that says nothing for this long is gone or stuck.
SILENT_S = 15.0

_POINT_EVERY_S = 1.0

# A rate is that of the last ten seconds.
_RATE_S = 10.0
_RATE_POINTS = 1 + int(_RATE_S / _POINT_EVERY_S)

RUNNING, PAUSED, SILENT, LOST = "running", "paused", "silent", "lost"


class Point(NamedTuple):
    """One second of a job."""

    at_s: float
    """By the scheduler's clock."""
    rate: float
    """Records that were done per second, since the point before."""
    p50_s: float
    """Median latency of the records written since then; not a number where none was."""
    p99_s: float


@dataclass(frozen=True, slots=True)
class JobView:
    """One job, as it stands."""

    name: str
    """``"pipeline/id"``."""
    state: str
    """``"running"``, ``"paused"``, ``"silent"`` (its driver has said nothing for long), ``"lost"``
    (its driver has left without a word), or the outcome that the job ended with, such as
    ``"done"``."""
    progress: Progress
    rate: float
    """Records done per second over the last ten seconds."""
    eta_s: float | None
    """Seconds to go at that rate; None where nobody knows how much is left, or nothing moves."""
    heard_s: float
    """For how long its driver has said nothing."""
    points: Sequence[Point]

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state not in (RUNNING, PAUSED, SILENT)


class _Job:
    """One job's news."""

    def __init__(self, name: str, client: str, progress: Progress, now_s: float) -> None:
        self.name = name
        self.client = client
        self.progress = progress
        self.heard_s = now_s
        self.is_lost = False
        self.points: deque[Point] = deque(maxlen=MOST_POINTS)
        # What was done before the first news, by an earlier start or unheard, took unknown time.
        self._counted = deque([(now_s, progress.num_read)], maxlen=_RATE_POINTS)
        """When points were made, and how many records were done by then."""
        self._latencies = progress.latencies
        """As of the latest point."""

    def hear(self, progress: Progress, now_s: float) -> None:
        self.progress, self.heard_s, self.is_lost = progress, now_s, False
        at_s, num_read = self._counted[-1]
        if now_s - at_s < _POINT_EVERY_S:
            return
        recent = Sketch(progress.latencies).since(self._latencies)
        rate = (progress.num_read - num_read) / (now_s - at_s)
        self.points.append(Point(now_s, rate, recent.percentile(50), recent.percentile(99)))
        self._counted.append((now_s, progress.num_read))
        self._latencies = progress.latencies

    def view(self, paused: bool, now_s: float) -> JobView:
        progress, rate = self.progress, self._rate(now_s)
        left = None if progress.expected is None else progress.expected - progress.num_read
        state = self._state(paused, now_s)
        eta_s = max(0, left) / rate if left is not None and rate and state == RUNNING else None
        return JobView(
            self.name,
            state,
            progress,
            rate,
            eta_s,
            now_s - self.heard_s,
            tuple(self.points),
        )

    @property
    def outcome(self) -> str:
        return RUNNING if self.progress.report is None else self.progress.report.outcome

    def _state(self, paused: bool, now_s: float) -> str:
        if self.outcome != RUNNING:
            return self.outcome
        if self.is_lost:
            return LOST
        if now_s - self.heard_s > SILENT_S:
            return SILENT
        return PAUSED if paused else RUNNING

    def _rate(self, now_s: float) -> float:
        recent = [counted for counted in self._counted if now_s - counted[0] <= _RATE_S]
        if len(recent) < 2:
            return 0.0
        (first_s, num_first), (last_s, num_last) = recent[0], recent[-1]
        return (num_last - num_first) / (last_s - first_s)

    def may_be_forgotten(self, now_s: float) -> bool:
        """Whether it ended, or nobody knows whether it will."""
        return self._state(False, now_s) != RUNNING


class Board:
    """The latest of all jobs; times are seconds of the scheduler's clock."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Job] = OrderedDict()

    def hear(self, job: str, client: str, progress: Progress, now_s: float) -> None:
        """Take the news of a job.

        Args:
            job: Its name, ``"pipeline/id"``.
            client: Dask's id of the driver's client.
            progress: How far it is; its report has an outcome once it ended.
            now_s: When.
        """
        known = self._jobs.get(job)
        if known is None:
            self._jobs[job] = _Job(job, client, progress, now_s)
            self._forget_old(now_s)
        else:
            known.hear(progress, now_s)

    def client_left(self, client: str) -> list[str]:
        """Note that a driver's connection is gone; return its jobs that had not ended."""
        left = [job for job in self._jobs.values() if job.client == client]
        lost = [job for job in left if job.outcome == RUNNING]
        for job in lost:
            job.is_lost = True
        return [job.name for job in lost]

    def jobs(self, now_s: float, paused: Sequence[str] = ()) -> list[JobView]:
        """Return all jobs: those that run first, each group the latest first."""
        views = [job.view(job.name in paused, now_s) for job in reversed(self._jobs.values())]
        return sorted(views, key=lambda view: view.is_over)

    def outcomes(self) -> Mapping[str, str]:
        """Return the outcome of each job, ``"running"`` for those that have none."""
        return {job.name: job.outcome for job in self._jobs.values()}

    def is_running(self, name: str) -> bool:
        """Return whether a job is known that has neither ended nor lost its driver."""
        job = self._jobs.get(name)
        return job is not None and job.outcome == RUNNING and not job.is_lost

    def _forget_old(self, now_s: float) -> None:
        ended = [job.name for job in self._jobs.values() if job.may_be_forgotten(now_s)]
        for name in ended[: max(0, len(ended) - MOST_ENDED)]:
            del self._jobs[name]
