"""Segments: what survives kills, torn writes, full disks, damage and other writers."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sage_dask.journal import segment_file
from sage_dask.journal.entries import EPOCH, Entry, Group, Memo
from sage_dask.journal.segment_file import SegmentFile, last_segment, segment_path
from sage_dask.journal.segment_lines import VERSION, Stand, closing, header, seal
from sage_dask.journal.segments import SegmentStore
from sage_dask.journal.store import CorruptJournalError, JournalError, Store

_COMMIT_FOR_EVER = """
import itertools, sys
from pathlib import Path
from sage_dask.journal.entries import Entry, Group
from sage_dask.journal.segments import SegmentStore
store = SegmentStore(Path(sys.argv[1]))
first = store.counts().num_entries
for seq in itertools.count(first):
    store.commit(Group([Entry(seq, f"r{seq}", b"%08d" % seq, False, b"x" * 845)]))
    print(seq, flush=True)
"""


def _group(number: int) -> Group:
    """Return some of everything."""
    places = range(3 * number, 3 * number + 3)
    entries = [Entry(n, f"r{n}", b"%08d" % n, n % 5 == 0, b"body %d " % n * 9) for n in places]
    memos = [Memo("embed", Entry(places[-1] + 1, "m", b"", False, b"memo"))]
    return Group(entries, memos, [b'{"step":%d}' % number], {"step": str(number)})


def _run(folder: Path, segments: list[int], contents: Callable[[Store], Any]) -> list[Any]:
    """Write segments of some groups each; return what the journal held after each group."""
    held: list[Any] = []
    for num_groups in segments:
        store = SegmentStore(folder)
        held = held or [contents(store)]
        for _ in range(num_groups):
            number = len(held)
            if number % 4 == 3:
                store.forget([3 * number - 3], _group(number))
            elif number % 4 == 2:
                first, last = 3 * number - 3, 3 * number - 1
                store.renumber([(first, last), (last, first)], _group(number))
            else:
                store.commit(_group(number))
            held.append(contents(store))
        store.close()
    return held


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return where the segments lie."""
    return tmp_path / "journal"


@pytest.fixture
def commit_of(entry: Callable[..., Entry]) -> Callable[[int], Group]:
    """Lend the function that makes a group of one entry."""
    return lambda seq: Group([entry(seq)])


def _hurt(data: bytes, at: int, how: str, draw: random.Random) -> bytes:
    if how == "torn":
        return data[:at]
    if how == "zeroed":
        length = draw.choice([1, 16, 512, 4096])
        return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :]


@pytest.mark.parametrize("how", ["torn", "zeroed", "flipped"])
def test_damage_is_refused_or_ends_at_a_group(folder: Path, tmp_path: Path, contents, how: str):
    """A hundred places of each kind: what opens holds the first so many groups, all whole."""
    held = _run(folder, [4, 0, 7, 1, 6], contents)
    draw = random.Random(how)
    refused = []

    for _ in range(100):
        hurt = tmp_path / "hurt"
        shutil.copytree(folder, hurt)
        path = draw.choice(_files(hurt))
        data = path.read_bytes()
        at = draw.randrange(len(data))
        path.write_bytes(_hurt(data, at, how, draw))
        try:
            store = SegmentStore(hurt, read_only=True)
        except CorruptJournalError as error:
            refused.append(str(error))
        else:
            found = contents(store)
            assert found in held
            # Only the end of the last file can look as if it had never been written.
            assert found == held[-1] or path == _files(hurt)[-1]
            assert found == held[-1] or how != "flipped"
        shutil.rmtree(hurt)

    assert len(refused) > 30
    assert all(re.search(r"segment-\d+.jsonl', line \d+ ", message) for message in refused)


def test_no_flip_is_silent(folder: Path, contents):
    """Whichever byte of the last segment changes, the journal is refused or is as it was."""
    held = _run(folder, [2, 3], contents)
    path = segment_path(folder, 2)
    data = path.read_bytes()

    for at in range(len(data)):
        for flip in (1, 0x20):
            path.write_bytes(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :])
            with pytest.raises(CorruptJournalError, match=r"segment-000002.jsonl', line \d+ "):
                SegmentStore(folder, read_only=True)
    path.write_bytes(data)
    assert contents(SegmentStore(folder, read_only=True)) == held[-1]


def test_a_write_cut_anywhere_leaves_the_groups_before(folder: Path, contents):
    """Every prefix of a segment opens with the groups it holds whole, and is gone on with."""
    held = _run(folder, [1, 2], contents)
    path = segment_path(folder, 2)
    data = path.read_bytes()
    ends = [at + 1 for at in range(len(data)) if data[at : at + 1] == b"\n"]
    whole = [end for end in ends if b'"commit"' in data[:end].splitlines()[-1]]

    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        store = SegmentStore(folder)
        groups = 1 + sum(end <= size for end in whole)
        assert contents(store) == held[groups]
        if size % 50 == 0:
            store.commit(Group(facts={"on": "went"}))
            again = contents(SegmentStore(folder, read_only=True))
            assert again == held[groups]._replace(facts={**held[groups].facts, "on": "went"})
            segment_path(folder, 3).unlink()
        store.close()


def test_pages_of_a_write_that_were_lost_are_no_damage(folder: Path, contents):
    """Zeros inside a last group that was never closed are a crash; before a close, damage."""
    held = _run(folder, [3], contents)
    path = segment_path(folder, 1)
    data = path.read_bytes()
    lines = data.splitlines(keepends=True)
    last = len(data) - sum(map(len, lines[-6:]))
    hole = data[: last + 20] + bytes(60) + data[last + 80 :]

    path.write_bytes(hole[: -len(lines[-1])])
    assert contents(SegmentStore(folder, read_only=True)) == held[2]
    path.write_bytes(data[:last] + bytes(5000))
    assert contents(SegmentStore(folder, read_only=True)) == held[2]
    path.write_bytes(hole)
    with pytest.raises(CorruptJournalError, match="is not what was written"):
        SegmentStore(folder, read_only=True)


@pytest.mark.parametrize("order", ["02134", "01324", "011234", "0234", "1234"])
def test_lines_out_of_order_are_noticed(folder: Path, entry, order: str):
    """Lines that are whole but missing, doubled or exchanged are damage."""
    store = SegmentStore(folder)
    store.commit(Group([entry(seq) for seq in range(3)]))
    store.close()
    path = segment_path(folder, 1)
    whole = path.read_bytes().splitlines(keepends=True)

    path.write_bytes(b"".join(whole[int(line)] for line in order))

    with pytest.raises(CorruptJournalError, match=r"segment-000001.jsonl', line \d"):
        SegmentStore(folder)


def test_groups_out_of_order_are_noticed(folder: Path, commit_of):
    """A group that is missing among others, or stands twice, is damage."""
    store = SegmentStore(folder)
    for seq in range(3):
        store.commit(commit_of(seq))
    store.close()
    path = segment_path(folder, 1)
    head, *lines = path.read_bytes().splitlines(keepends=True)

    for order in ((0, 2), (1, 0, 2), (0, 0, 1, 2), (2,)):
        path.write_bytes(
            head + b"".join(lines[2 * group] + lines[2 * group + 1] for group in order)
        )
        with pytest.raises(CorruptJournalError, match="closes a group with lines missing"):
            SegmentStore(folder)


def test_missing_and_exchanged_segments_are_named(folder: Path, commit_of):
    """A gap in the numbers, another's content, and an emptied segment are all refused."""
    for seq in range(3):
        store = SegmentStore(folder)
        store.commit(commit_of(seq))
        store.close()
    first, second, third = _files(folder)
    kept = second.read_bytes()

    second.unlink()
    with pytest.raises(CorruptJournalError, match=r"lacks 'segment-000002\.jsonl'"):
        SegmentStore(folder)
    second.write_bytes(first.read_bytes())
    with pytest.raises(CorruptJournalError, match="begins segment 1, and 2 is wanted"):
        SegmentStore(folder)
    second.write_bytes(b"")
    with pytest.raises(CorruptJournalError, match=r"3.jsonl', line 1 continues a journal of 2 gr"):
        SegmentStore(folder)
    second.write_bytes(kept)
    third.unlink()
    assert SegmentStore(folder).counts().num_entries == 2


def test_what_was_acknowledged_survives_kills(folder: Path):
    """A process that is killed while it commits, ten times over, loses nothing it told of."""
    for kill in range(10):
        command = [sys.executable, "-c", _COMMIT_FOR_EVER, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(1 + 7 * kill)]
            process.kill()
            told += process.stdout.read().splitlines()
        store = SegmentStore(folder, read_only=True)
        seqs = [mark.seq for mark in store.marks()]

        assert seqs == list(range(len(seqs)))
        assert int(told[-1]) < len(seqs) == len(list(store.entries()))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Lend a function that lets so many more bytes be written, and then says the disk is full."""
    left = [1 << 40]
    write = os.pwrite

    def limited(file: int, data: memoryview, offset: int) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = write(file, data[: left[0]], offset)
        left[0] -= written
        return written

    monkeypatch.setattr(segment_file.os, "pwrite", limited)
    yield lambda num_bytes: left.__setitem__(0, num_bytes)
    left[0] = 1 << 40


def test_a_full_disk_loses_nothing(folder: Path, disk, contents):
    """Wherever in a write the disk is full, what was before stays, and later commits follow it."""
    store = SegmentStore(folder)
    store.commit(_group(0))
    size = segment_path(folder, 1).stat().st_size

    for room in range(0, 500, 37):
        before = contents(store)
        disk(room)
        with pytest.raises(JournalError, match=r"disk full .*free space, then resume"):
            store.commit(_group(1))
        assert contents(store) == before == contents(SegmentStore(folder, read_only=True))
        assert segment_path(folder, 1).stat().st_size == size
        disk(1 << 40)
        store.commit(Group(facts={"room": str(room)}))
        size = segment_path(folder, 1).stat().st_size

    store.commit(_group(1))
    assert contents(SegmentStore(folder)) == contents(store)


def test_a_disk_that_is_full_at_the_first_commit_stops_nobody(folder: Path, disk, contents):
    """A segment without a whole header holds nothing, and the next one goes on."""
    store = SegmentStore(folder)
    for room in (0, 10):
        disk(room)
        with pytest.raises(JournalError, match="disk full"):
            store.commit(_group(0))
    disk(1 << 40)

    store.commit(_group(0))

    assert last_segment(folder) == 3
    assert contents(SegmentStore(folder)) == contents(store)


def test_a_limit_of_file_sizes_is_a_full_disk(folder: Path, commit_of, entry):
    """The kernel's own refusal in the middle of a write is undone."""
    store = SegmentStore(folder)
    store.commit(commit_of(0))
    size = segment_path(folder, 1).stat().st_size
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, old[1]))
    try:
        with pytest.raises(JournalError, match="disk full"):
            store.commit(Group([entry(1, body=bytes(1000))]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)

    assert segment_path(folder, 1).stat().st_size == size
    store.commit(commit_of(1))
    assert SegmentStore(folder).counts().num_entries == 2


def test_a_sync_that_fails_is_a_write_that_fails(folder: Path, commit_of, monkeypatch):
    """Nothing of a group whose sync failed is kept, although its bytes could be read."""
    store = SegmentStore(folder)
    store.commit(commit_of(0))
    sync, fails = os.fdatasync, [True]

    def failing(file: int) -> None:
        if fails:
            fails.pop()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(file)

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(JournalError, match="Input/output error"):
        store.commit(commit_of(1))

    assert SegmentStore(folder, read_only=True).counts().num_entries == 1
    store.commit(commit_of(2))
    assert [mark.seq for mark in SegmentStore(folder).marks()] == [0, 2]


def test_what_can_not_be_undone_ends_all_writing(folder: Path, disk, commit_of, monkeypatch):
    """With half a group that can not be removed behind it, a store commits no more, but reads."""
    store = SegmentStore(folder)
    store.commit(commit_of(0))

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk(20)
    monkeypatch.setattr(os, "ftruncate", refuse)
    with pytest.raises(JournalError, match="disk full"):
        store.commit(commit_of(1))
    disk(1 << 40)
    with pytest.raises(JournalError, match=r"can not be removed \(Input/output error"):
        store.commit(commit_of(1))

    assert [mark.seq for mark in store.marks()] == [0]
    after = SegmentStore(folder)
    after.commit(commit_of(2))
    assert [mark.seq for mark in SegmentStore(folder).marks()] == [0, 2]


def test_an_interrupted_commit_is_undone(folder: Path, commit_of, monkeypatch):
    """Whatever ends a write, half a group does not stay in the file."""
    store = SegmentStore(folder)
    store.commit(commit_of(0))

    def interrupt(file: int) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fdatasync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.commit(commit_of(1))

    store.commit(commit_of(2))
    assert [mark.seq for mark in SegmentStore(folder).marks()] == [0, 2]


def test_the_later_writer_is_the_only_one(folder: Path, commit_of):
    """Once another has begun its segment, the earlier one writes nothing, also without epochs."""
    first, second = SegmentStore(folder), SegmentStore(folder)
    first.commit(commit_of(0))
    first.commit(commit_of(1))

    second.commit(commit_of(2))

    size = segment_path(folder, 1).stat().st_size
    for _ in range(2):
        with pytest.raises(JournalError, match="another process has taken over the run"):
            first.commit(commit_of(3))
    assert segment_path(folder, 1).stat().st_size == size
    # It had opened before the other wrote, and read on when it began.
    assert [mark.seq for mark in second.marks()] == [0, 1, 2]


def test_an_earlier_start_that_wakes_up_late_takes_nothing_over(folder: Path, commit_of):
    """A process that has not written yet does not end the writing of a later start."""
    late = SegmentStore(folder)
    late.begin()
    store = SegmentStore(folder)
    store.begin()

    with pytest.raises(JournalError, match="another process has taken over the run"):
        late.commit(commit_of(1))

    store.commit(commit_of(0))
    assert last_segment(folder) == 2


@pytest.mark.parametrize("when", ["before the write", "after the sync"])
def test_a_writer_that_was_overtaken_in_a_commit_does_not_say_it_is_safe(
    folder: Path, commit_of, monkeypatch, when: str
):
    """What it wrote behind the end that the other read is never part of the journal."""
    first = SegmentStore(folder)
    first.commit(commit_of(0))
    name = {"before the write": "pwrite", "after the sync": "fdatasync"}[when]
    real = getattr(os, name)

    def overtake(*arguments: Any) -> Any:
        monkeypatch.undo()
        done = real(*arguments) if when == "after the sync" else None
        second = SegmentStore(folder)
        second.commit(commit_of(2))
        second.close()
        return real(*arguments) if when == "before the write" else done

    monkeypatch.setattr(os, name, overtake)
    with pytest.raises(JournalError, match="another process has taken over the run"):
        first.commit(commit_of(1))

    found = [mark.seq for mark in SegmentStore(folder).marks()]
    assert found == ([0, 2] if when == "before the write" else [0, 1, 2])


def test_a_header_that_came_too_late_does_not_count(folder: Path, commit_of, monkeypatch):
    """A process overtaken between making its file and its first line leaves nothing that counts."""
    slow = SegmentStore(folder)
    real = SegmentFile.append

    def overtake(file: SegmentFile, data: bytes) -> int:
        monkeypatch.undo()
        SegmentStore(folder).commit(commit_of(1))
        (segment_path(folder, 1)).write_bytes(data + b"and the beginning of")
        return real(file, data)

    monkeypatch.setattr(SegmentFile, "append", overtake)
    with pytest.raises(JournalError, match="taken over"):
        slow.commit(commit_of(0))

    store = SegmentStore(folder)
    store.commit(commit_of(2))
    assert [mark.seq for mark in SegmentStore(folder).marks()] == [1, 2]


def test_a_file_without_a_header_between_changes_nothing(folder: Path, commit_of, monkeypatch):
    """Where a segment ends is said by the next that says anything."""
    first = SegmentStore(folder)
    first.commit(commit_of(0))
    write = os.pwrite

    def overtake(*arguments: Any) -> int:
        monkeypatch.undo()
        segment_path(folder, 2).touch()
        SegmentStore(folder).commit(commit_of(2))
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", overtake)
    with pytest.raises(JournalError, match="another process has taken over the run"):
        first.commit(commit_of(1))

    assert last_segment(folder) == 3
    assert [mark.seq for mark in SegmentStore(folder).marks()] == [0, 2]


@pytest.mark.parametrize("is_start", [False, True])
def test_what_is_committed_just_before_a_segment_is_made_is_kept(
    folder: Path, entry, monkeypatch, is_start: bool
):
    """A process that begins reads again what came meanwhile, also that it is not the latest."""
    writer = SegmentStore(folder)
    writer.commit(Group([entry(0)], facts={EPOCH: "2"}))
    late = SegmentStore(folder)
    make = SegmentFile.__init__

    def be_slow(*arguments: Any) -> None:
        writer.commit(Group([entry(1)], facts={EPOCH: "4"}))
        make(*arguments)

    monkeypatch.setattr(SegmentFile, "__init__", be_slow)
    if is_start:
        with pytest.raises(JournalError, match="it is start 4, and this one is 3"):
            late.begin()
    else:
        late.commit(Group([entry(2)]))

    found = [mark.seq for mark in SegmentStore(folder).marks()]
    assert found == ([0, 1] if is_start else [0, 1, 2])


def test_two_processes_never_share_a_segment(folder: Path, commit_of, monkeypatch):
    """Of two that see the same last segment, the slower is told so and writes nothing."""
    slow = SegmentStore(folder)
    monkeypatch.setattr("sage_dask.journal.segments.last_segment", lambda _: 0)
    SegmentStore(folder).commit(commit_of(0))

    with pytest.raises(JournalError, match="another process has taken over the run"):
        slow.commit(commit_of(1))


def test_a_segment_that_is_gone_is_not_written_on(folder: Path, commit_of):
    """A commit into a file that was removed would be lost with it, so it fails."""
    store = SegmentStore(folder)
    store.commit(commit_of(0))
    segment_path(folder, 1).unlink()

    with pytest.raises(JournalError, match="it is gone"):
        store.commit(commit_of(1))


def test_opening_alone_makes_no_segment(folder: Path, commit_of):
    """Looking at a journal, or finding that it is another run's, leaves no file."""
    SegmentStore(folder).close()
    SegmentStore(folder, read_only=True).close()

    assert _files(folder) == []
    with pytest.raises(JournalError, match=r"can not be read \(No such file"):
        SegmentStore(folder / "missing", read_only=True)


def test_a_body_that_rots_after_opening_is_named(folder: Path, entry):
    """What is read later is checked as well, and named by its line."""
    store = SegmentStore(folder)
    store.commit(Group([entry(seq) for seq in range(3)], events=[b"e"]))
    path = segment_path(folder, 1)
    path.write_bytes(path.read_bytes().replace(b'"entry",1,"1"', b'"entry",1,"7"'))

    entries = store.entries()
    next(entries)
    with pytest.raises(CorruptJournalError, match=r"segment-000001.jsonl', line 3 is not what"):
        next(entries)
    path.unlink()
    with pytest.raises(JournalError, match=r"can not be read \(No such file"):
        list(store.events())


def test_another_form_is_refused_in_words(folder: Path, commit_of):
    """What a newer version wrote is neither read nor called damage."""
    folder.mkdir()
    segment_path(folder, 1).write_bytes(seal(["segment", VERSION + 1, "?"]))

    with pytest.raises(JournalError, match="has format 2, and this sage_dask knows 1") as raised:
        SegmentStore(folder)

    assert not isinstance(raised.value, CorruptJournalError)


@pytest.mark.parametrize("row", [["dance"], ["entry", 1], ["fact", 3, None], ["forget", 7]])
def test_lines_that_say_nothing_known_are_named(folder: Path, row: list[Any]):
    """A line with a good checksum and a foreign meaning is not passed over."""
    folder.mkdir()
    lines = [header(1, Stand()), seal(row)]
    stand = Stand().after(lines[0]).after(lines[1])
    segment_path(folder, 1).write_bytes(b"".join([*lines, closing(stand, 1)]))

    with pytest.raises(CorruptJournalError, match="line 2 says nothing that is known"):
        SegmentStore(folder)


def test_lines_are_json_for_any_tool(folder: Path, entry):
    """Every line can be read without sage_dask, in seven bits, events as they are."""
    store = SegmentStore(folder)
    store.commit(Group([entry(0, "é")], [Memo("t", entry(1))], [b'{"a": 1}'], {"n": "f"}))
    store.forget([0], Group())

    lines = [json.loads(line) for line in segment_path(folder, 1).read_text("ascii").splitlines()]

    kinds = ["segment", "entry", "memo", "event", "fact", "commit", "forget", "commit"]
    assert [line[0] for line in lines] == kinds
    assert lines[3][1] == '{"a": 1}'


def test_any_text_and_bytes_come_back(folder: Path, entry):
    """Halves of surrogate pairs side by side, and events that are no text, stay as they are."""
    store = SegmentStore(folder)
    odd = entry(0, "\ud83d\ude00\udc80\U0001f600\xff\0")
    events = [bytes(range(256)), b"\xed\xa0\xbd\xed\xb8\x80"]
    store.commit(Group([odd], events=events, facts={"\ud83d\ude00": "\udce4"}))

    again = SegmentStore(folder)

    assert list(again.entries()) == [odd]
    assert list(again.events()) == events
    assert again.facts()["\ud83d\ude00"] == "\udce4"
    again.commit(Group([odd._replace(seq=1)]))
    assert again.counts().num_entries == 1


def test_a_closed_store_refuses(folder: Path, commit_of):
    """Nothing is committed after closing, in words."""
    store = SegmentStore(folder)
    store.close()

    with pytest.raises(JournalError, match="is closed; open it again"):
        store.commit(commit_of(0))
    assert _files(folder) == []


def test_an_entry_that_is_not_kept_keeps_the_memo(folder: Path, entry):
    """A place whose entry had another's id still has its memo, also after reopening."""
    store = SegmentStore(folder)
    memo = Memo("t", entry(1))
    store.commit(Group([entry(0, "a")], [memo]))

    store.commit(Group([entry(1, "a")]))

    assert list(store.memos()) == list(SegmentStore(folder).memos()) == [memo]


def test_two_places_do_not_become_one(folder: Path, entry):
    """Renumbering two entries to one new place is refused and changes nothing."""
    store = SegmentStore(folder)
    store.commit(Group([entry(0), entry(1)]))

    with pytest.raises(JournalError, match="renumbering 2 places would put two entries into one"):
        store.renumber([(0, 9), (1, 9)], Group())

    assert [mark.seq for mark in SegmentStore(folder).marks()] == [0, 1]
