"""Looking at the machine and the packages of this process."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from sage_dask.doctor.machine import MachineFacts, PortFacts, least_limit, limit_files
from sage_dask.doctor.versions import COMPARED, EXTRAS, PYTHON, SAGE, Installed, Versions
from sage_dask.version import __version__


def look_at_packages() -> Installed:
    """Return what is installed here."""
    from sage_dask.scheduling.on_dask.versions import version_notice

    notice = version_notice()
    return Installed(
        package_versions(),
        {name for extra in EXTRAS.values() for name in extra.packages if _version(name)},
        None if notice is None else notice.text,
    )


def package_versions() -> Versions:
    """Return the releases of what is compared across a cluster, in this process."""
    # A checkout on the path is not what is installed under the same name.
    known = {PYTHON: platform.python_version(), SAGE: __version__}
    return {name: known.get(name) or _version(name) for name in COMPARED}


def look_at_machine() -> MachineFacts:
    """Return what this process may use of its machine."""
    from distributed.system import MEMORY_LIMIT

    memory = psutil.virtual_memory()
    soft, hard = open_files()
    return MachineFacts(
        cores=os.cpu_count() or 1,
        usable_cores=len(os.sched_getaffinity(0)),
        memory_bytes=memory.total,
        free_bytes=memory.available,
        allowed_bytes=memory_limit(),
        dask_bytes=MEMORY_LIMIT,
        open_files=soft,
        most_open_files=hard,
    )


def open_files() -> tuple[int, int]:
    """Return how many files this process may have open at once, and to what it may raise that."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def memory_limit() -> int | None:
    """Return what the control groups of this process allow it, in bytes; None for all."""
    texts = []
    with suppress(OSError):
        for file in limit_files(Path("/proc/self/cgroup").read_text()):
            with suppress(OSError):
                texts.append(file.read_text())
    return least_limit(texts)


def usable_memory() -> int:
    """Return the memory in bytes that there is for this process."""
    total = int(psutil.virtual_memory().total)
    return min(total, memory_limit() or total)


def look_at_ports(ports: Iterable[int]) -> list[PortFacts]:
    """Return who listens at some ports of this machine."""
    listening = {
        each.laddr.port: each
        for each in psutil.net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }
    return [
        PortFacts(port, listening[port].laddr.ip, _process(listening[port].pid))
        if port in listening
        else PortFacts(port)
        for port in ports
    ]


def _process(pid: int | None) -> str:
    with suppress(psutil.Error):
        if pid is not None:
            return f"{psutil.Process(pid).name()} (process {pid})"
    return ""


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
