"""Looking at folders and at the disk below them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from sage_dask.doctor.disk import FolderFacts, RunFolderFacts
from sage_dask.journal.lock import holder
from sage_dask.journal.opening import has_journal, keeps_segments
from sage_dask.journal.place import file_system

# A commit of a small batch, a few times: one may meet whatever else the disk does.
_COMMIT_BYTES = 16 * 2**10
_NUM_COMMITS = 7


def look_at_folder(path: Path) -> FolderFacts:
    """Return what is known of a folder that is there."""
    if not path.is_dir():
        fault = "is a file, not a folder" if path.exists() else "is not there"
        return FolderFacts(str(path), fault=fault)
    usage = shutil.disk_usage(path)
    fault = "" if os.access(path, os.W_OK | os.X_OK) else "may not be written to"
    return FolderFacts(str(path), file_system(path), usage.free, usage.total, fault)


def look_at_run_folder(path: Path) -> RunFolderFacts:
    """Return what is known of a run's folder, there already or not; nothing is left in it."""
    place = path
    while not place.exists() and place != place.parent:
        place = place.parent
    folder = look_at_folder(place)
    if folder.fault:
        return RunFolderFacts(folder)
    by = holder(path)
    folder = replace(folder, path=str(path))
    return RunFolderFacts(
        folder,
        has_journal=has_journal(path),
        has_segments=keeps_segments(path),
        holder="" if by is None else f"process {by.pid} on {by.host} since {by.started_at}",
        commit_ms=commit_ms(place),
    )


def commit_ms(folder: Path) -> float:
    """Return how long a small write takes until it is on the disk; milliseconds, the median."""
    took = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(_NUM_COMMITS):
            started = time.perf_counter()
            file.write(os.urandom(_COMMIT_BYTES))
            file.flush()
            os.fdatasync(file.fileno())
            took.append(1000 * (time.perf_counter() - started))
    return median(took)
