"""Settings of a Dask scheduler under which work is lost or waits, beside what we recommend."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sage_dask.doctor.finding import Finding, note, ok, warn

WORKER_TTL = "distributed.scheduler.worker-ttl"
ALLOWED_FAILURES = "distributed.scheduler.allowed-failures"
LOST_WORKER_TIMEOUT = "distributed.deploy.lost-worker-timeout"
NO_WORKERS_TIMEOUT = "distributed.scheduler.no-workers-timeout"
WORK_STEALING = "distributed.scheduler.work-stealing"


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """What holds on a scheduler; times in seconds, None for never."""

    worker_ttl_s: float | None
    allowed_failures: int
    lost_worker_timeout_s: float | None
    no_workers_timeout_s: float | None
    steals_work: bool


def setting_findings(
    found: SchedulerSettings, recommended: Mapping[str, str | int], *, has_dispatcher: bool
) -> Iterator[Finding]:
    """Yield the settings that cost work, each with why and how to set it.

    Args:
        found: What holds.
        recommended: What nodes of ours use, by the setting's name.
        has_dispatcher: Whether our dispatcher places tasks, or Dask.
    """
    faults = [*_faults(found, recommended, has_dispatcher)]
    yield from faults
    if not faults:
        yield ok("settings", "none that lose work")


def _faults(
    found: SchedulerSettings, recommended: Mapping[str, str | int], has_dispatcher: bool
) -> Iterator[Finding]:
    wanted = recommended[WORKER_TTL]
    if found.worker_ttl_s is None or found.worker_ttl_s > _seconds(wanted):
        yield warn(
            "settings",
            f"worker-ttl is {_shown(found.worker_ttl_s)}",
            "a worker that hangs keeps its tasks for that long: "
            f"{_set(WORKER_TTL, wanted)} where the scheduler starts",
        )
    most = int(recommended[ALLOWED_FAILURES])
    if found.allowed_failures > most:
        yield note(
            "settings",
            f"allowed-failures is {found.allowed_failures}",
            f"a record that kills its worker kills {found.allowed_failures + 1} before it is "
            f"found: {_set(ALLOWED_FAILURES, most)} where the scheduler starts",
        )
    wanted = recommended[LOST_WORKER_TIMEOUT]
    if found.lost_worker_timeout_s is not None and found.lost_worker_timeout_s < _seconds(wanted):
        yield note(
            "settings",
            f"lost-worker-timeout is {_shown(found.lost_worker_timeout_s)}",
            "a cluster object (LocalCluster, SSHCluster, SLURMCluster) gives up workers that take "
            f"longer to come back: {_set(LOST_WORKER_TIMEOUT, wanted)} where that object is made",
        )
    if found.no_workers_timeout_s is not None:
        what = "tasks that the dispatcher holds back" if has_dispatcher else "tasks that wait"
        yield warn(
            "settings",
            f"no-workers-timeout is {_shown(found.no_workers_timeout_s)}",
            f"{what} fail after that time: {_set(NO_WORKERS_TIMEOUT, 'null')} where the scheduler "
            "starts",
        )
    if found.steals_work and not has_dispatcher:
        yield note(
            "settings",
            "work-stealing is on, and Dask places tasks",
            "it moves tasks after they were placed; the dispatcher's are pinned, and with "
            f"policy='dask' {_set(WORK_STEALING, 'false')} keeps it out",
        )


def _set(name: str, value: str | int) -> str:
    variable = name.upper().replace(".", "__").replace("-", "_")
    return f"set DASK_{variable}={value}"


_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def _seconds(text: str | int) -> float:
    """Return what ``60s`` or ``1h`` is in seconds."""
    return float(str(text)[:-1]) * _UNITS[str(text)[-1]]


def _shown(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:g} s"
