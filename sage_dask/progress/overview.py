"""All that one table shows, whoever tells it: the jobs of this process, or a cluster's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import ServerStatistics
from sage_dask.standing import RUNNING, Progress


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job, as it stands now."""

    name: str
    progress: Progress
    state: str
    """``"running"``, ``"paused"``, ``"silent"``, ``"lost"``, or what it ended with."""
    elapsed_s: float
    rate: float
    """Records done per second."""
    eta_s: float | None
    """Seconds to go; None where nobody knows."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything in one table."""

    jobs: Sequence[JobRow] = ()
    gates: Mapping[str, GateStatistics] = field(default_factory=dict)
    servers: Mapping[str, ServerStatistics] = field(default_factory=dict)
    """By endpoint."""
    notes: Sequence[str] = ()
    """What people should know, beside the notes of jobs."""
    headline: str = ""


def names_of(jobs: Sequence[tuple[str, str]]) -> list[str]:
    """Return what to call jobs, each a pipeline and an id: the id only where it is needed.

    >>> names_of([("rag", "1f"), ("index", "2e"), ("rag", "3d")])
    ['rag/1f', 'index', 'rag/3d']
    """
    times = Counter(pipeline for pipeline, _ in jobs)
    return [f"{pipeline}/{job}" if times[pipeline] > 1 else pipeline for pipeline, job in jobs]


class Jobs:
    """The latest of the jobs of this process.

    One thread hears at a time; any thread may look meanwhile.
    """

    def __init__(self) -> None:
        # Replaced with each change, so that whoever looks sees one state.
        self._latest: Mapping[tuple[str, str], tuple[Progress, float]] = {}

    def hear(self, progress: Progress, now_s: float) -> None:
        """Take the news of a job."""
        key = progress.pipeline, progress.job
        self._latest = {**self._latest, key: (progress, now_s)}

    @property
    def are_over(self) -> bool:
        """Whether all of them have ended."""
        return all(progress.outcome != RUNNING for progress, _ in self._latest.values())

    def overview(self, now_s: float) -> Overview:
        """Return them as they stand; the time of those that run goes on between their news."""
        latest = self._latest
        names = names_of(list(latest))
        rows = [_row(name, *told, now_s) for name, told in zip(names, latest.values(), strict=True)]
        gates: dict[str, GateStatistics] = {}
        servers: dict[str, ServerStatistics] = {}
        for row in rows:
            if row.state == RUNNING:
                gates.update(row.progress.gates)
                servers.update(row.progress.servers)
        return Overview(rows, gates, servers)


def _row(name: str, progress: Progress, taken_s: float, now_s: float) -> JobRow:
    is_running = progress.outcome == RUNNING
    elapsed_s = progress.elapsed_s + (now_s - taken_s if is_running else 0.0)
    done = progress.num_read - progress.num_before
    rate = done / elapsed_s if elapsed_s > 0 else 0.0
    left = None if progress.expected is None else max(0, progress.expected - progress.num_read)
    eta_s = left / rate if left is not None and rate and is_running else None
    return JobRow(name, progress, progress.outcome, elapsed_s, rate, eta_s)
