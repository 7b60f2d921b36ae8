"""Whether a scheduler is safe, seen, and decides as a run wants it to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from sage_dask.doctor.finding import Finding, fail, note, ok, warn
from sage_dask.doctor.settings import SchedulerSettings

_EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - what to warn of
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class Dispatching:
    """What the dispatcher on a scheduler says of itself."""

    policy: str
    is_broken: bool
    gates: dict[str, float]
    """Limits that were set."""
    num_queued: int


@dataclass(frozen=True, slots=True)
class SchedulerFacts:
    """A scheduler, as it sees itself."""

    listens: tuple[str, ...]
    """Addresses on which it accepts connections, such as ``tcp://0.0.0.0:8786``."""
    dashboard_hosts: tuple[str, ...]
    dashboard_port: int | None
    dispatching: Dispatching | None
    """None where Dask places all tasks."""
    settings: SchedulerSettings


def scheduler_findings(facts: SchedulerFacts) -> Iterator[Finding]:
    """Yield where a scheduler listens, and who decides on it."""
    yield from map(_listening, facts.listens)
    if facts.dashboard_port is not None and _EVERYWHERE.intersection(facts.dashboard_hosts):
        port = facts.dashboard_port
        yield warn(
            "dashboard",
            f"listens on all interfaces at port {port}, without a login",
            "whoever reaches it reads code, logs and keys of tasks: start the scheduler with "
            f"--dashboard-address 127.0.0.1:{port}, and look through ssh "
            f"-L {port}:127.0.0.1:{port}",
        )
    yield _deciding(facts.dispatching)


def _listening(address: str) -> Finding:
    parts = urlsplit(address)
    is_open = (parts.hostname or "") in _EVERYWHERE and parts.scheme != "inproc"
    if parts.scheme in ("tcp", "ws", "ucx") and is_open:
        return warn(
            "scheduler",
            f"listens on all interfaces without TLS ({address})",
            "whoever reaches that port runs code: start it with --host and the address of an "
            "interface that only the cluster reaches (127.0.0.1 for this machine alone), or with "
            "--tls-cert, --tls-key and --tls-ca-file",
        )
    return ok("scheduler", f"listens at {address}")


def _deciding(dispatching: Dispatching | None) -> Finding:
    if dispatching is None:
        return note(
            "dispatcher",
            "none yet: Dask places tasks as they come",
            "the first run brings it; --preload sage_dask.preload starts the scheduler with it",
        )
    if dispatching.is_broken:
        return fail(
            "dispatcher",
            f"policy {dispatching.policy!r} decides nothing any more",
            "it did not understand an event, and the scheduler's log has which: restart the "
            "scheduler",
        )
    return ok(
        "dispatcher", f"policy {dispatching.policy!r}, {dispatching.num_queued:,} tasks waiting"
    )


def dashboard_finding(facts: SchedulerFacts, url: str, fault: str) -> Finding:
    """Return whether the dashboard can be seen from here.

    Args:
        facts: Of its scheduler.
        url: Where it was asked for.
        fault: What was answered instead of a page; empty where there was one.
    """
    if not fault:
        return ok("dashboard", url)
    if fault == "GET /status is answered 404":
        return note(
            "dashboard",
            f"none at {url}",
            "a scheduler has one if bokeh is installed and it is not started with --no-dashboard",
        )
    if facts.dashboard_hosts and _LOOPBACK.issuperset(facts.dashboard_hosts):
        port, host = facts.dashboard_port, urlsplit(url).hostname
        return note(
            "dashboard",
            f"listens on the scheduler's loopback only, port {port}",
            f"look at it through ssh -L {port}:127.0.0.1:{port} {host}",
        )
    return warn(
        "dashboard",
        f"{url} does not answer from here ({fault})",
        f"a run works without it; open port {facts.dashboard_port} between here and there to see "
        "it",
    )
