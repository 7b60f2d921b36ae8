"""Whether this machine lets a run have cores, memory, files and ports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sage_dask.doctor.finding import Finding, note, ok, warn
from sage_dask.endpoint.limit import CEILING

# One for each request that may be under way to a server, and as many for workers and files.
_ENOUGH_FILES = 2 * CEILING

# Dask's default ports, and what takes them.
DEFAULT_PORTS = {8786: "a scheduler", 8787: "its dashboard"}

# More than any machine has: cgroups of the first version write "no limit" as a number.
_NO_LIMIT = 2**60

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class MachineFacts:
    """What a process may use of its machine."""

    cores: int
    """In the machine."""
    usable_cores: int
    """That this process may use."""
    memory_bytes: int
    """In the machine."""
    free_bytes: int
    allowed_bytes: int | None
    """What its control groups allow; None for all."""
    dask_bytes: int
    """What Dask takes ``memory_limit="auto"`` for, all workers together."""
    open_files: int
    """That this process may have at once."""
    most_open_files: int
    """To which it may raise that."""

    @property
    def usable_bytes(self) -> int:
        """The memory that there is for this process."""
        return min(self.memory_bytes, self.allowed_bytes or self.memory_bytes)


@dataclass(frozen=True, slots=True)
class PortFacts:
    """A port of Dask's that somebody may listen at."""

    port: int
    host: str = ""
    """Where somebody listens; empty where the port is free."""
    owner: str = ""
    """The process, in words; empty where the system does not tell."""


def machine_findings(facts: MachineFacts) -> Iterator[Finding]:
    """Yield what this machine has, and where that is not enough."""
    yield ok("cores", f"{facts.usable_cores} usable of {facts.cores}")
    memory = f"{_gib(facts.usable_bytes)} usable of {_gib(facts.memory_bytes)}"
    if facts.dask_bytes > facts.usable_bytes:
        yield warn(
            "memory",
            f"{memory}, and Dask takes it for {_gib(facts.dask_bytes)}",
            "it does not see the control group's limit, and the kernel ends workers without a "
            f"note: give memory_limit, {_gib(facts.usable_bytes)} over the number of workers",
        )
    else:
        yield ok("memory", f"{memory}, {_gib(facts.free_bytes)} free in the machine")
    yield from open_file_findings("open files", facts.open_files, facts.most_open_files)


def open_file_findings(what: str, limit: int, most: int) -> Iterator[Finding]:
    """Yield whether a process may have enough connections at once."""
    if limit >= _ENOUGH_FILES:
        yield ok(what, f"{limit:,} at once")
        return
    raised = min(most, 8 * _ENOUGH_FILES)
    how = (
        f"ulimit -n {raised} before the start"
        if raised > limit
        else "have an administrator raise nofile in /etc/security/limits.conf"
    )
    yield warn(
        what,
        f"{limit:,} at once",
        f"{CEILING} requests may be under way to one server, each with a connection: {how}",
    )


def port_findings(ports: Sequence[PortFacts]) -> Iterator[Finding]:
    """Yield which of Dask's ports are taken, by whom."""
    for facts in ports:
        use = DEFAULT_PORTS[facts.port]
        if not facts.host:
            yield ok("ports", f"{facts.port} is free, for {use}")
            continue
        by = facts.owner or "a process of another user"
        yield note(
            "ports",
            f"{facts.port} is taken on {facts.host} by {by}",
            f"if that is the cluster to run on, ask again with --scheduler; {use} started now "
            "takes another port (LocalNodes always takes free ones)",
        )


def limit_files(text: str) -> list[Path]:
    """Return the files that may hold a limit of memory, given ``/proc/self/cgroup``.

    A group is bound by those that it lies in, so all of them count.
    """
    files = []
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        path = PurePosixPath(group.lstrip("/"))
        for inside in (path, *path.parents):
            if not controllers:
                files.append(_CGROUPS / inside / "memory.max")
            elif "memory" in controllers.split(","):
                files.append(_CGROUPS / "memory" / inside / "memory.limit_in_bytes")
    return list(dict.fromkeys(files))


def least_limit(texts: Sequence[str]) -> int | None:
    r"""Return the lowest of some limits in bytes, as their files write them; None for none.

    >>> least_limit(["max", "4096\n", "9223372036854771712"]), least_limit(["max"])
    (4096, None)
    """
    limits = [int(text) for text in texts if text.strip().isdigit()]
    return min((limit for limit in limits if limit < _NO_LIMIT), default=None)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"
