"""On which file system a folder lies, and whether other machines share it.

SQLite's write-ahead log needs memory that all readers share, which file systems
behind a network do not give; a journal is kept in another way there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# What is said where the system does not tell.
UNKNOWN = "unknown"

_MOUNTS = Path("/proc/self/mountinfo")

# proc(5): space, tab, line end and backslash stand in octal.
_OCTAL = re.compile(r"\\([0-7]{3})")

# Network and cluster file systems, those between a virtual machine and its host, and autofs,
# behind which one of them is about to be mounted.
# fmt: off
_NETWORKED = frozenset({
    "9p", "acfs", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "cvfs", "fhgfs", "gfs",
    "gfs2", "glusterfs", "gpfs", "kafs", "lustre", "mmfs", "ncpfs", "nfs", "nfs3", "nfs4",
    "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "quobyte", "smb3", "smbfs", "vboxsf",
    "virtiofs", "vmhgfs", "wekafs",
})
# fmt: on

# The one file system of the ``fuse`` family that containers use for local disks.
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs"})


class Mount(NamedTuple):
    """One line of mountinfo."""

    id: int
    parent: int
    point: Path
    kind: str


def file_system(path: Path) -> str:
    """Return the kind of file system a path lies on, such as ``ext4``, or ``UNKNOWN``.

    What does not exist yet lies where its nearest parent lies.
    """
    resolved = path.resolve()
    with suppress(OSError):
        # Looking at it mounts what is mounted on demand.
        resolved.stat()
    try:
        text = os.fsdecode(_MOUNTS.read_bytes())
    except OSError:
        return UNKNOWN
    return kind_at(resolved, parse_mounts(text))


def is_networked(kind: str) -> bool:
    """Tell whether other machines may write what lies on a kind of file system.

    Programs that serve files (``fuse.sshfs``) count as network: few keep what SQLite needs.
    """
    is_fuse = kind == "fuse" or kind.startswith("fuse.")
    return kind in _NETWORKED or (is_fuse and kind not in _LOCAL_FUSE)


def parse_mounts(text: str) -> list[Mount]:
    """Return the mounts that the text of ``/proc/self/mountinfo`` names."""
    mounts = []
    # Not ``splitlines``, which knows ends of lines that may stand in a path.
    for line in text.split("\n"):
        # Optional fields of any number stand between the two parts.
        where, dash, what = line.partition(" - ")
        fields, kinds = where.split(" "), what.split(" ")
        if dash and len(fields) > 4:
            point = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4]))
            mounts.append(Mount(int(fields[0]), int(fields[1]), point, kinds[0]))
    return mounts


def kind_at(path: Path, mounts: Iterable[Mount]) -> str:
    """Return the kind of file system at an absolute path without links, or ``UNKNOWN``.

    The mounts are walked as the kernel walks a path: a mount over a folder hides all that
    was mounted inside that folder before.
    """
    waiting = {mount.id: mount for mount in mounts if path.is_relative_to(mount.point)}
    children: dict[int | None, list[Mount]] = {}
    for mount in waiting.values():
        is_top = mount.parent == mount.id or mount.parent not in waiting
        children.setdefault(None if is_top else mount.parent, []).append(mount)
    here: int | None = None
    kind = UNKNOWN
    while below := children.pop(here, None):
        nearest = min(below, key=lambda mount: len(mount.point.parts))
        here, kind = nearest.id, nearest.kind
    return kind
