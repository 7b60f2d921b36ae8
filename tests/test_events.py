"""Events in their file: what is written is what is read."""

from __future__ import annotations

import json
import resource

import pytest

from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import RunError, SageError
from sage_dask.event_file import EventFile, read_events
from sage_dask.events import (
    BatchCommitted,
    BatchFormed,
    BatchKept,
    JobFinished,
    JobStarted,
)
from sage_dask.record import StageTiming, TaskTiming

TIMING = TaskTiming(
    "a+b", "node-0", 2.0, 0.5, (StageTiming("a", 1.5, 4, 3), StageTiming("b", 0.5, 3, 3))
)
EVENTS = [
    JobStarted(
        pipeline="rag",
        job="1234abcd",
        runner="on 1 Dask nodes, 1 threads",
        nodes=["node-0"],
        num_threads=1,
        startup_s={"cluster": 1.5},
        stages=["a", "b"],
        started_at="2026-01-01T00:00:00+00:00",
        versions={"dask": "1"},
        output="answers.jsonl",
    ),
    BatchCommitted(0, 4, 3, 1, 0, 0, 0.5, 2.0, [TIMING], {"a: Wörtlich": 1}),
    JobFinished("done"),
]


def write(path, events=EVENTS):
    """Write events to a file."""
    file = EventFile(path)
    for event in events:
        file.append(event)
    file.close()


def test_events_come_back_from_their_file(tmp_path):
    """What is written is what is read, timings and all."""
    path = tmp_path / "events.jsonl"
    write(path)

    assert list(read_events(path)) == EVENTS


USAGE = Usage(requests=5, retries=1, prompt_tokens=70, completion_tokens=9, cost=0.25)
CALLS = CallTimes(calls=4, turn_s=0.1, sent_s=1 / 3, told=4, queue_s=1e-7)


def committed(*sums, num_out=4):
    """Return the commit of a batch, the only stage of which has such sums."""
    timing = StageTiming("a", 1.5, 4, num_out, *sums)
    task = TaskTiming("a", "node-0", 2.0, 0.0, (timing,))
    return BatchCommitted(0, 4, 4, 0, 0, 0, 0.5, 2.0, [task], {})


@pytest.mark.parametrize("calls", [None, CALLS])
@pytest.mark.parametrize("usage", [None, USAGE])
def test_the_sums_of_a_stage_come_back_from_their_file(tmp_path, usage, calls):
    """What its requests cost and where the time of its calls went, to the last bit."""
    path = tmp_path / "events.jsonl"
    event = committed(usage, calls)
    write(path, [event])

    assert list(read_events(path)) == [event]


@pytest.mark.parametrize("num_out", [4, 0])
@pytest.mark.parametrize("sums", [(), (Usage(),), (None, None), (Usage(), CallTimes())], ids=str)
def test_a_stage_without_requests_is_written_as_it_always_was(tmp_path, sums, num_out):
    """Sums stand in the file only where there are any, so all versions read such a file."""
    path = tmp_path / "events.jsonl"
    write(path, [committed(*sums, num_out=num_out)])

    (row,) = [json.loads(line) for line in path.read_text().splitlines()]
    (read,) = read_events(path)

    assert row["tasks"] == [["a", "node-0", 2.0, 0.0, [["a", 1.5, 4, num_out]]]]
    assert read.tasks[0].stages == (StageTiming("a", 1.5, 4, num_out),)


def test_a_stage_without_calls_is_written_as_before_there_were_any(tmp_path):
    """A line of a version that knew of usage alone is what is written now, and is read."""
    path = tmp_path / "events.jsonl"
    write(path, [committed(USAGE)])

    (row,) = [json.loads(line) for line in path.read_text().splitlines()]

    assert row["tasks"][0][-1] == [["a", 1.5, 4, 4, USAGE.as_dict()]]
    assert list(read_events(path)) == [committed(USAGE)]


def test_a_torn_last_line_is_left_out(tmp_path):
    """A run killed in the middle of a line loads to its last whole event."""
    path = tmp_path / "events.jsonl"
    write(path)
    path.write_bytes(path.read_bytes()[:-7])

    assert list(read_events(path)) == EVENTS[:-1]


@pytest.mark.parametrize(
    "line", ["\udcff", "not json", "[]", '{"kind": "unheard_of"}', '{"kind": "job_finished"}']
)
def test_a_damaged_line_is_named(tmp_path, line):
    """A whole line that is no event is an error with its number, never skipped."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(line.encode(errors="surrogateescape") + b"\n")

    with pytest.raises(SageError, match=r"events\.jsonl, line 1: not an event"):
        list(read_events(path))


def test_events_are_on_file_as_they_come(tmp_path):
    """A run that is killed leaves all events up to its last write."""
    path = tmp_path / "events.jsonl"
    file = EventFile(path)

    file.append(EVENTS[0])

    assert list(read_events(path)) == EVENTS[:1]
    file.close()


def test_a_file_that_is_there_is_not_written_over(tmp_path):
    """Events of an earlier run stay what they are."""
    path = tmp_path / "events.jsonl"
    write(path)

    with pytest.raises(FileExistsError):
        EventFile(path)

    assert list(read_events(path)) == EVENTS


def test_an_event_that_is_damaged_in_the_middle_is_named_by_its_line(tmp_path):
    """The events before it are read, and then the line is told."""
    path = tmp_path / "events.jsonl"
    write(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{broken\n" + lines[2])
    events = read_events(path)

    assert next(events) == EVENTS[0]
    with pytest.raises(SageError, match=r"events\.jsonl, line 2: not an event"):
        next(events)


def test_a_full_disk_is_told_and_leaves_whole_events(tmp_path):
    """An event for which there is no room ends the run with the file's name and the mend."""
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    file.append(EVENTS[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
        with pytest.raises(RunError, match=r"events\.jsonl' \(File too large\); free space"):
            file.append(EVENTS[1])
        file.append(EVENTS[2])
        file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert list(read_events(path)) == EVENTS[:1]


def test_what_was_waited_for_and_where_time_went_come_back(tmp_path):
    """Waits, reasons, laps and failures of a batch are read as they were written."""
    path = tmp_path / "events.jsonl"
    task = TaskTiming("a", "node-0", 2.0, 0.0, (), {"node": 1.5, "queue": 0.5}, "least loaded")
    laps = {"admission": 0.25, "away": 3.75}
    events = [
        BatchFormed(0, 0.5, ["x", "y"]),
        BatchCommitted(
            *(0, 2, 1, 1, 0, 0, 4.0, 4.5, [task], {"a: ValueError": 1}),
            spent=laps,
            failed={"y": "a: ValueError: no"},
            filtered=["z"],
            is_kept=False,
        ),
        BatchKept(0, 0.125),
    ]

    write(path, events)

    assert list(read_events(path)) == events


def test_a_file_that_has_grown_is_set_aside_and_read_with_the_others(tmp_path):
    """Nothing is dropped, and the order stays, also with more than ten files."""
    path = tmp_path / "events.jsonl"
    events = [BatchKept(number, 0.5) for number in range(40)]
    file = EventFile(path, rotate_bytes=150)

    for event in events:
        file.append(event)
    file.close()

    names = sorted(each.name for each in tmp_path.iterdir())
    assert len(names) == 14
    assert names[:2] == ["events.0001.jsonl", "events.0002.jsonl"]
    assert all(each.stat().st_size <= 150 for each in tmp_path.iterdir())
    assert list(read_events(path)) == events


def test_an_event_larger_than_a_file_has_one_of_its_own(tmp_path):
    """The limit bounds when a file is set aside, and no event."""
    path = tmp_path / "events.jsonl"
    events = [BatchFormed(number, 0.0, ["long-id" * 20]) for number in range(3)]
    file = EventFile(path, rotate_bytes=50)

    for event in events:
        file.append(event)

    assert list(read_events(path)) == events
    file.close()


def test_files_of_another_stream_are_not_read(tmp_path):
    """Only those of its own name stand before a file."""
    write(tmp_path / "events.jsonl", EVENTS)
    write(tmp_path / "other.0001.jsonl", EVENTS)

    assert list(read_events(tmp_path / "events.jsonl")) == EVENTS


def test_a_run_that_died_while_a_file_was_set_aside_is_not_written_over(tmp_path):
    """There is no latest file, and what was set aside is still a run's."""
    path = tmp_path / "events.jsonl"
    write(tmp_path / "events.0001.jsonl", EVENTS)

    with pytest.raises(FileExistsError):
        EventFile(path)

    assert [each.name for each in tmp_path.iterdir()] == ["events.0001.jsonl"]


def test_a_file_that_is_set_aside_while_it_is_read_is_read_once(tmp_path):
    """Whoever reads a run that goes on misses nothing, and sees nothing twice."""
    path = tmp_path / "events.jsonl"
    events = [BatchKept(number, 0.5) for number in range(40)]
    file = EventFile(path, rotate_bytes=150)
    for event in events[:10]:
        file.append(event)
    read = read_events(path)
    seen = [next(read) for _ in range(4)]

    for event in events[10:]:
        file.append(event)
    file.close()

    assert seen + list(read) == events


def test_what_was_set_aside_is_read_where_the_latest_file_was_never_begun(tmp_path):
    """A run killed just then has all its events; a run that never was has none, and says so."""
    write(tmp_path / "events.0001.jsonl", EVENTS)

    assert list(read_events(tmp_path / "events.jsonl")) == EVENTS
    with pytest.raises(FileNotFoundError):
        list(read_events(tmp_path / "others.jsonl"))
