"""Which file system a folder lies on, from tables of mounts and from this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_dask.journal import place
from sage_dask.journal.place import (
    UNKNOWN,
    Mount,
    file_system,
    is_networked,
    kind_at,
    parse_mounts,
)

_TABLE = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 0:40 / /home rw shared:2 master:1 propagate_from:2 - nfs4 server:/home rw,vers=4.2
41 40 254:0 /srv/fast /home/ann/fast rw - ext4 /dev/vda rw
42 27 0:42 / /mnt/my\040runs\134new rw - lustre 10.0.0.1@tcp:/runs rw
43 27 0:43 / /mnt/tab\011end\012 rw - fuse.sshfs ann@host: rw
44 27 0:44 / /box rw - overlay overlay rw,lowerdir=/l,upperdir=/u
45 44 0:45 / /box/auto rw - autofs auto rw
46 45 0:46 / /box/auto rw - cifs //host/auto rw
50 27 0:50 / /data/deep rw - tmpfs tmpfs rw
51 27 0:51 / /data rw - beegfs beegfs_nodev rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/tmp/run", "ext4"),
        ("/homes/bob", "ext4"),
        ("/home/ann/run", "nfs4"),
        ("/home/ann/fast/run", "ext4"),
        ("/mnt/my runs\\new/run", "lustre"),
        ("/mnt/my", "ext4"),
        ("/mnt/tab\tend\n/x", "fuse.sshfs"),
        ("/box/run", "overlay"),
        ("/box/auto/run", "cifs"),
        ("/data/run", "beegfs"),
    ],
)
def test_the_mount_that_covers_a_path_tells_its_kind(path: str, kind: str):
    """Names are whole parts of a path, written with escapes; what is mounted later lies on top."""
    assert kind_at(Path(path), parse_mounts(_TABLE)) == kind


def test_a_mount_over_a_folder_hides_those_inside():
    """A table still names what was mounted below before; nobody can reach it."""
    assert kind_at(Path("/data/deep/run"), parse_mounts(_TABLE)) == "beegfs"


def test_a_table_without_an_answer_says_so():
    """No table, a foreign line, or a root that is its own parent ends in a word, not in a loop."""
    assert kind_at(Path("/run"), parse_mounts("")) == UNKNOWN
    assert parse_mounts("not a line\n1 2 - x y\n") == []
    assert kind_at(Path("/run"), [Mount(1, 1, Path("/"), "rootfs")]) == "rootfs"


def test_paths_may_hold_unusual_ends_of_lines():
    """A folder whose name holds a Unicode line end is found."""
    table = "1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / /odd\u2028\x85name rw - nfs b rw\n"

    assert kind_at(Path("/odd\u2028\x85name/run"), parse_mounts(table)) == "nfs"


@pytest.mark.parametrize(
    "kind",
    [
        "nfs",
        "nfs4",
        "lustre",
        "cifs",
        "smb3",
        "fuse.sshfs",
        "gpfs",
        "beegfs",
        "ceph",
        "afs",
        "9p",
        "glusterfs",
        "fuse",
        "fuse.rclone",
    ],
)
def test_network_file_systems_are_known(kind: str):
    """What other machines may write, and whatever a program serves, counts as network."""
    assert is_networked(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "ext4",
        "xfs",
        "btrfs",
        "zfs",
        "tmpfs",
        "overlay",
        "fuseblk",
        "fuse.fuse-overlayfs",
        "unknown",
    ],
)
def test_disks_of_this_machine_are_known(kind: str):
    """Local file systems, memory and those of containers keep SQLite's promises."""
    assert not is_networked(kind)


def test_links_and_folders_to_be_made_are_followed(tmp_path: Path, monkeypatch):
    """A link leads to where its target lies; what is not there lies where its parent does."""
    table = tmp_path / "mountinfo"
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    table.write_text(f"1 0 0:1 / / rw - ext4 a rw\n2 1 0:2 / {target} rw - nfs4 b rw\n")
    monkeypatch.setattr(place, "_MOUNTS", table)

    assert file_system(tmp_path / "link" / "not" / "there") == "nfs4"
    assert file_system(tmp_path) == "ext4"
    table.unlink()
    assert file_system(tmp_path) == UNKNOWN


def test_this_machine_is_understood():
    """The real table is parsed, and the process file system is what it is."""
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(Path.cwd()) != UNKNOWN
