"""The journal in one SQLite file: damage, crashes, full disks, and who may look."""

from __future__ import annotations

import os
import random
import re
import runpy
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sage_dask.journal.entries import Entry, Group
from sage_dask.journal.sqlite_store import SqliteStore
from sage_dask.journal.store import CorruptJournalError, JournalError

_HERE = Path(__file__).parent
_GROUPS = runpy.run_path(str(_HERE / "committing.py"))["GROUPS"]
# Without the log's index, which is made anew: it must not help.
_FILES = ("journal.db", "journal.db-wal", "journal.db-commits")


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory, contents):
    """Lend what a journal holds after each commit, the first with none."""
    path = tmp_path_factory.mktemp("whole") / "journal.db"
    store = SqliteStore(path)
    held = [contents(store)]
    for group in _GROUPS:
        store.commit(group)
        held.append(contents(store))
    store.close()
    return held


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Lend the folder of a journal that was closed, and of one whose process died."""
    closed, crashed = tmp_path_factory.mktemp("closed"), tmp_path_factory.mktemp("crashed")
    store = SqliteStore(closed / "journal.db")
    for group in _GROUPS:
        store.commit(group)
    store.close()
    subprocess.run(
        [sys.executable, _HERE / "committing.py", crashed / "journal.db", "steps"], check=True
    )
    return [closed, crashed]


def _copy(folder, to):
    to.mkdir()
    for name in _FILES:
        if (folder / name).exists():
            shutil.copy(folder / name, to)
    return to / "journal.db"


def _damage(path, chance):
    """Tear, blank, change or exchange some bytes of a file."""
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data))
    page, other = at // 4096 * 4096, chance.randrange(len(data)) // 4096 * 4096
    match chance.randrange(4):
        case 0:
            del data[at:]
        case 1:
            size = min(chance.choice([1, 512, 4096]), len(data) - at)
            data[at : at + size] = bytes(size)
        case 2:
            data[at] ^= 1 << chance.randrange(8)
        case _:
            data[page : page + 4096] = data[other : other + 4096]
    path.write_bytes(data)


@pytest.mark.parametrize("is_acknowledged", [True, False])
def test_damage_is_refused_or_does_no_harm(folders, snapshots, contents, tmp_path, is_acknowledged):
    """At 150 places each: a journal opens with every commit that it acknowledged, or is refused.

    Where the number of commits is lost too, it opens whole up to some commit.
    """
    chance = random.Random(f"damage {is_acknowledged}")
    outcomes = []

    for number in range(150):
        path = _copy(chance.choice(folders), tmp_path / str(number))
        files = [file for file in path.parent.iterdir() if not file.name.endswith("-commits")]
        if not is_acknowledged:
            path.with_name(_FILES[2]).unlink(missing_ok=True)
        _damage(chance.choice(sorted(files)), chance)
        try:
            store = SqliteStore(path)
            try:
                outcomes.append(snapshots.index(contents(store)))
            finally:
                store.close()
        except CorruptJournalError as error:
            if str(path) not in str(error):
                raise
            outcomes.append(None)
        shutil.rmtree(path.parent)

    opened = {outcome for outcome in outcomes if outcome is not None}
    assert len(_GROUPS) in opened
    assert None in outcomes
    assert (len(opened) == 1) == is_acknowledged


def test_what_is_damaged_in_place_is_refused_by_its_name(tmp_path, entry):
    """A changed body, or a row under another place, is told where it is read."""
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    store.commit(Group([entry(0), entry(1), entry(2)]))
    store.close()

    with sqlite3.connect(path) as db:
        db.execute("UPDATE bodies SET body = x'00' WHERE key = 2")
    db.close()
    store = SqliteStore(path)
    entries = store.entries()

    assert next(entries) == entry(0)
    with pytest.raises(CorruptJournalError, match=r"place 1 \('1'\)"):
        next(entries)
    store.close()


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM entries WHERE seq = 1",
        "UPDATE entries SET crc = crc + 1 WHERE seq = 1",
        "DELETE FROM facts",
        "DELETE FROM events WHERE seq = 0",
        "UPDATE totals SET crc = 0",
        "CREATE TRIGGER t AFTER INSERT ON entries BEGIN DELETE FROM entries; END",
        "DROP TABLE bodies",
    ],
)
def test_rows_that_are_gone_are_missed_when_it_is_opened(tmp_path, entry, change):
    """A journal that SQLite finds well formed is refused where its totals do not agree."""
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    store.commit(Group([entry(0), entry(1)], events=[b"a", b"b"], facts={"x": "y"}))
    store.close()

    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()

    for read_only in (False, True):
        with pytest.raises(JournalError, match=r"journal '.*journal\.db'"):
            SqliteStore(path, read_only=read_only)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ("UPDATE entries SET is_failed = 1 - is_failed WHERE seq = 1", "place 1 of its entries"),
        ("UPDATE entries SET id = x'00' WHERE seq = 1", "place 1 of its entries"),
        ("UPDATE entries SET seq = 9 WHERE seq = 1", "place 9 of its entries"),
        ("UPDATE entries SET digest = 'text' WHERE seq = 1", "place 1 of its entries"),
        ("UPDATE events SET line = x'00'", "event 0"),
        ("DELETE FROM bodies WHERE key = 2", "place 1"),
    ],
)
def test_every_column_is_checked_where_it_is_read(tmp_path, entry, contents, change, field):
    """A row that was changed in any column is refused, also where it would be left out."""
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    store.commit(Group([entry(0), entry(1, is_failed=True)], events=[b"a"]))
    store.close()
    with sqlite3.connect(path) as db:
        db.execute(change)
    db.close()
    store = SqliteStore(path)

    with pytest.raises(CorruptJournalError, match=field):
        contents(store)
    if "is_failed" in change:
        with pytest.raises(CorruptJournalError, match=field):
            list(store.entries(failed_only=True))
    store.close()


def test_an_id_is_checked_in_both_its_places(tmp_path, entry, contents):
    """The index that keeps ids apart is looked over like the row itself."""
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    store.commit(Group([entry(0, "an-id-like-no-other"), entry(1)]))
    store.close()
    whole = path.read_bytes()
    places = [found.start() for found in re.finditer(b"an-id-like-no-other", whole)]
    assert len(places) == 2

    for at in places:
        path.write_bytes(whole[:at] + b"A" + whole[at + 1 :])
        with pytest.raises(CorruptJournalError), closing(SqliteStore(path)) as store:
            contents(store)


def test_moving_does_not_hide_damage(tmp_path, entry):
    """A damaged row gets no new checksum when it is given another place."""
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    store.commit(Group([entry(0)]))
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entries SET id = x'00'")
    db.close()
    store = SqliteStore(path)

    with pytest.raises(CorruptJournalError, match="place 0 of its entries"):
        store.renumber([(0, 1)], Group())
    store.close()


def _damage_last_frame(log):
    """Change a byte of what was written to a log last; older frames may stand behind it."""
    data = bytearray(log.read_bytes())
    frames = range(32, len(data), 24 + 4096)
    last = max(at for at in frames if data[at + 8 : at + 16] == data[16:24])
    data[last + 100] ^= 1
    log.write_bytes(data)


def test_commits_that_were_acknowledged_are_missed(folders, tmp_path):
    """A log that lost its end is refused with a mend, and the mend works."""
    path = _copy(folders[1], tmp_path / "run")
    _damage_last_frame(path.with_name(_FILES[1]))

    for read_only in (True, False):
        with pytest.raises(CorruptJournalError, match="its last 1 commit are missing; remove"):
            SqliteStore(path, read_only=read_only)
    path.with_name(_FILES[2]).unlink()
    store = SqliteStore(path)

    assert store.counts().num_entries == 4 * (len(_GROUPS) - 1)
    store.close()


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path, contents):
    """Six times: whatever the process said before it was killed is there, in whole commits."""
    for number in range(6):
        path = tmp_path / str(number) / "journal.db"
        path.parent.mkdir()
        process = subprocess.Popen(
            [sys.executable, _HERE / "committing.py", path, "forever"], stdout=subprocess.PIPE
        )
        for _ in range(random.Random(number).randrange(1, 120)):
            process.stdout.readline()
        process.kill()
        said = process.stdout.read().split(b"\n")
        process.wait()
        process.stdout.close()
        # A line that was cut short was not said.
        acknowledged = int(said[-2]) + 1 if len(said) > 1 else 1

        for _ in range(2):
            store = SqliteStore(path)
            held = contents(store).entries
            assert [each.seq for each in held] == list(range(len(held)))
            assert len(held) % 2 == 0
            assert len(held) >= 2 * acknowledged
            store.close()


def test_a_finished_journal_is_one_file(tmp_path, entry):
    """Closing leaves the file alone, so does looking at it."""
    path = tmp_path / "journal.db"
    store = SqliteStore(path)
    store.commit(Group([entry(0)]))
    store.close()

    SqliteStore(path, read_only=True).close()

    assert list(tmp_path.iterdir()) == [path]


def test_a_journal_that_is_not_there_is_not_made_by_looking(tmp_path):
    """Opening for reading makes nothing, and says so."""
    with pytest.raises(JournalError, match="can not be opened"):
        SqliteStore(tmp_path / "journal.db", read_only=True)
    with pytest.raises(JournalError, match="can not be"):
        SqliteStore(tmp_path / "nowhere" / "journal.db")

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"hello", b"SQLite format 3\0" + bytes(5000)])
def test_a_file_of_another_make_is_refused(tmp_path, content):
    """Something else under the journal's name is not taken for an empty journal."""
    path = tmp_path / "journal.db"
    path.write_bytes(content)

    for read_only in (False, True):
        with pytest.raises(CorruptJournalError, match="is damaged"):
            SqliteStore(path, read_only=read_only)

    assert path.read_bytes() == content


def test_a_log_without_its_file_is_refused(folders, tmp_path):
    """A lost file is told; a new one beside the old log would be a mixture."""
    path = _copy(folders[1], tmp_path / "run")
    path.unlink()

    with pytest.raises(CorruptJournalError, match="its log is there"):
        SqliteStore(path)


def test_another_version_is_refused_in_words(tmp_path, monkeypatch):
    """A journal of an unknown format names both formats, and is no damage."""
    path = tmp_path / "journal.db"
    monkeypatch.setattr("sage_dask.journal.sqlite_file._FORMAT_VERSION", "99")
    SqliteStore(path).close()
    monkeypatch.undo()

    with pytest.raises(JournalError, match="has format 99, and this version of sage_dask knows 1"):
        SqliteStore(path)


def _look_as_another_user(path):
    """Return what a user who may write nothing reads from a journal, or the error."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from sage_dask.journal.sqlite_store import SqliteStore\n"
        "os.geteuid() or (os.setgid(65534), os.setuid(65534))\n"
        "store = SqliteStore(Path(sys.argv[1]), read_only=True)\n"
        "print(len(list(store.entries())))\n"
        "store.close()"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or answer.stderr


@pytest.fixture
def public_folder():
    """Lend a folder that everyone may read and nobody but root may write."""
    folder = Path(os.path.realpath("/tmp")) / f"sage-dask-test-{os.getpid()}"
    folder.mkdir()
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_whoever_may_read_the_folder_can_look(public_folder, folders, entry):
    """Closed, crashed or being written: a journal can be read without permission to write."""
    closed = _copy(folders[0], public_folder / "closed")
    crashed = public_folder / "crashed"
    shutil.copytree(folders[1], crashed)
    live = SqliteStore(public_folder / "live.db")
    live.commit(Group([entry(0)]))
    for path in [public_folder, *public_folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    assert _look_as_another_user(closed) == "160"
    assert _look_as_another_user(crashed / "journal.db") == "160"
    assert _look_as_another_user(public_folder / "live.db") == "1"
    assert list(closed.parent.iterdir()) == [closed]
    for path in [public_folder, *public_folder.iterdir()]:
        path.chmod(0o755)
    live.close()


def test_a_column_that_is_no_entry_is_refused(tmp_path):
    """An entry without digest is an error and not silently left out."""
    store = SqliteStore(tmp_path / "journal.db")

    with pytest.raises(JournalError):
        store.commit(Group([Entry(0, "a", None, False, b"")]))

    assert store.counts().num_entries == 0
    store.close()


def _full(*args):
    return subprocess.run(
        [sys.executable, _HERE / "disk_full.py", *map(str, args)],
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_full_disk_loses_nothing(tmp_path):
    """Files that may not grow at four sizes: what was acknowledged stays; resuming ends well."""
    assert int(_full(tmp_path, 400, 1600, "limit").stdout) > 0


@pytest.mark.slow
def test_a_disk_that_is_full_anywhere_loses_nothing(tmp_path):
    """At every 64 KB of a small disk: what was acknowledged stays, and resuming ends well."""
    command = f"mount -t tmpfs -o size=8m tmpfs {tmp_path} && exec '{sys.executable}' "
    command += f"'{_HERE / 'disk_full.py'}' {tmp_path} 64 4096 ballast"
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("needs permission to mount")

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], check=True, capture_output=True, text=True
    )

    assert int(done.stdout) > 60
