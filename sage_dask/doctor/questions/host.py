"""What a worker is asked about its machine; the worker runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distributed import Worker

from sage_dask.doctor.disk import FolderFacts
from sage_dask.doctor.questions.folder import look_at_folder
from sage_dask.doctor.questions.machine import open_files, package_versions, usable_memory
from sage_dask.doctor.questions.server import ask_server
from sage_dask.doctor.servers import ServerAnswer, ServerQuestion
from sage_dask.doctor.versions import Versions


@dataclass(frozen=True, slots=True)
class HostAnswer:
    """One worker's machine, as that worker sees it."""

    versions: Versions
    folder: FolderFacts
    """The worker's local directory."""
    memory_bytes: int
    open_files: int
    most_open_files: int
    servers: tuple[ServerAnswer, ...]
    """In the order of the questions."""


async def look_around(questions: Sequence[ServerQuestion], dask_worker: Worker) -> HostAnswer:
    """Return what a worker sees; its event loop, and with it the heartbeat, is not held up."""
    folder, servers = await asyncio.gather(
        asyncio.to_thread(look_at_folder, Path(dask_worker.local_directory)),
        asyncio.gather(*map(ask_server, questions)),
    )
    soft, hard = open_files()
    return HostAnswer(package_versions(), folder, usable_memory(), soft, hard, tuple(servers))
