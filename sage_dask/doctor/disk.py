"""Whether folders have room, and how fast the disk under a journal takes a commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sage_dask.doctor.finding import Finding, Mark, fail, named, note, ok, warn
from sage_dask.journal.place import is_networked

# A journal, an export beside it, and a cache of answers soon take this much.
_SCARCE_BYTES = 2**30
# Less than one large batch and its export.
_FULL_BYTES = 64 * 2**20
# A run commits per batch, some ten times a second at the most that small clusters do.
_SLOW_COMMIT_MS = 50.0

_IN_MEMORY = {"tmpfs", "ramfs"}


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A folder, and the disk that it lies on."""

    path: str
    kind: str = "unknown"
    """Of file system."""
    free_bytes: int = 0
    total_bytes: int = 0
    fault: str = ""
    """Why nothing can be written there; empty where something can."""


@dataclass(frozen=True, slots=True)
class RunFolderFacts:
    """The folder of a run; where it is not there yet, what would hold of it."""

    folder: FolderFacts
    has_journal: bool = False
    has_segments: bool = False
    """Whether its journal is plain files, not SQLite; of a new one, whether it will be."""
    holder: str = ""
    """Who writes it now, in words."""
    commit_ms: float | None = None
    """What a small write with a sync takes there; the median of a few."""


def folder_findings(what: str, folder: FolderFacts) -> Iterator[Finding]:
    """Yield whether a folder can be written to, and has room."""
    if folder.fault:
        yield fail(what, f"{folder.path}: {folder.fault}", "give a folder that you may write to")
        return
    room = (
        f"{folder.path} ({folder.kind}): {_size(folder.free_bytes)} free of "
        f"{_size(folder.total_bytes)}"
    )
    if folder.free_bytes < _FULL_BYTES:
        yield fail(what, room, f"free at least {_size(_SCARCE_BYTES)} there")
    elif folder.free_bytes < _SCARCE_BYTES:
        yield warn(what, room, f"free some: below {_size(_FULL_BYTES)} runs stop")
    else:
        yield ok(what, room)


def spill_findings(folders: Mapping[str, FolderFacts]) -> Iterator[Finding]:
    """Yield whether workers' local directories are fit to hold what memory does not.

    Args:
        folders: By node; those that are well share a line.
    """
    what = "worker disk"
    well: dict[str, FolderFacts] = {}
    for node, folder in folders.items():
        (finding,) = folder_findings(what, folder)
        value = f"{node}: {finding.value}"
        if finding.mark is not Mark.OK:
            yield replace(finding, value=value)
        elif folder.kind in _IN_MEMORY:
            yield warn(
                what,
                f"{value}, which lies in memory",
                "what a worker spills there frees none: start it with --local-directory on a disk",
            )
        elif is_networked(folder.kind):
            yield note(
                what,
                f"{value}, which is shared over a network",
                "spilling there is slow: start workers with --local-directory on a local disk",
            )
        else:
            well[node] = folder
    if well:
        kinds = named({folder.kind for folder in well.values()})
        least = min(folder.free_bytes for folder in well.values())
        yield ok(what, f"{named(well)}: at least {_size(least)} free ({kinds})")


def run_folder_findings(facts: RunFolderFacts) -> Iterator[Finding]:
    """Yield whether a run could keep its journal in a folder, of which kind, and how fast."""
    yield from folder_findings("run folder", facts.folder)
    if facts.folder.fault:
        return
    if facts.holder:
        yield note(
            "run folder",
            f"in use by {facts.holder}",
            "another run is refused meanwhile; 'sage-dask status' tells how that one stands",
        )
    kind = "plain files" if facts.has_segments else "SQLite"
    state = "there" if facts.has_journal else "will be made"
    yield ok("journal", f"{kind}, {state}")
    if facts.commit_ms is None:
        return
    rate = (
        f"{facts.commit_ms:.1f} ms per commit, {1000 / max(facts.commit_ms, 0.001):,.0f} a second"
    )
    if facts.commit_ms > _SLOW_COMMIT_MS:
        yield warn(
            "journal",
            rate,
            "each batch is committed before its place is free: use a local disk, or larger "
            "batches (--batch-size)",
        )
    else:
        yield ok("journal", rate)


def _size(num_bytes: int) -> str:
    if num_bytes < 2**30:
        return f"{num_bytes / 2**20:,.0f} MiB"
    return f"{num_bytes / 2**30:,.1f} GiB"
