"""A run that dies anywhere goes on from there, and its output is that of a run which never died."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sage_dask.cluster.timed_server import TimedServer
from sage_dask.durable.known_rows import known_rows
from sage_dask.durable.run_events import run_events
from sage_dask.journal.lock import holder
from sage_dask.life.fold import LifeBuilder
from sage_dask.life.words import sentences

_STARTS = Path(__file__).with_name("starts.py")
_KILLED = 137
# What an earlier run had written to the same place.
_OLD = b"old\n"
_BATCH_SIZE = 16
_IN_FLIGHT = 3

# What a crash may change of a report: how many starts there were, and what was asked twice.
_MAY_DIFFER = {"num_starts", "requests"}

_COMMITS = ["commit:1", "commit:2", "commit:3", "commit:6", "committed:1", "committed:4"]
_WORK = ["work:1", "work:100", "work:200"]
_EXPORTS = [
    "export:1",
    "export-end:1",
    "rename:1",
    "rename:2",
    "renamed:1",
    "renamed:2",
    "published:1",
]
_CALLS = ["call:1", "call:20", "call:60", "answer:1", "answer:30"]


class Starts:
    """Starts runs, each in a process forked from one that has imported everything."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, _STARTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, order, **more):
        """Start a run, wait for its end, and return how it ended."""
        self._process.stdin.write(json.dumps({**order, **more}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        """End the process, which has none below it then."""
        self._process.communicate()


@pytest.fixture(scope="module")
def starts():
    """Lend what starts runs."""
    starts = Starts()
    yield starts
    starts.close()


@pytest.fixture(scope="module")
def server():
    """A model server that answers with the prompt."""
    with TimedServer(seats=16, latency_s=0.01, echo=True) as server:
        yield server


def write_input(folder):
    """Write rows of every kind: good ones, unreadable ones, and ids that were there before."""
    rows = []
    for number in range(250):
        rows.append(json.dumps({"key": f"k{number}", "n": number}))
        if number % 20 == 0:
            rows.append('{"key": "broken')
        if number % 30 == 0:
            rows.append(json.dumps({"key": f"k{number // 2}", "n": number}))
    (folder / "input.jsonl").write_text("\n".join(rows) + "\n")


def order_in(folder, pipeline, output="out.jsonl", endpoint=""):
    """Return the order for a run in a new folder."""
    folder.mkdir()
    write_input(folder)
    (folder / output).write_bytes(_OLD)
    options = {"batch_size": _BATCH_SIZE, "max_in_flight": _IN_FLIGHT}
    names = {"pipeline": pipeline, "output": output, "endpoint": endpoint}
    return {"folder": str(folder), "options": options, **names}


def files_in(folder):
    """Return the bytes of what a run has published."""
    return {path.name: path.read_bytes() for path in folder.glob("out*")}


def names_in(run):
    """Return the names of what a run folder holds."""
    return sorted(str(path.relative_to(run)) for path in run.rglob("*"))


def account_of(ended):
    """Return the counts of a report that no crash may change."""
    return {name: count for name, count in ended.items() if name not in _MAY_DIFFER}


@pytest.fixture(scope="module")
def clean(starts, server, tmp_path_factory):
    """Lend what makes a clean run of a pipeline, once, and returns its account and its folder."""
    made = {}

    def run(pipeline, output, kind="sqlite"):
        key = pipeline, output, kind
        if key not in made:
            folder = tmp_path_factory.mktemp("clean") / "of"
            order = order_in(folder, pipeline, output, server.endpoint)
            prepare(order, kind)
            made[key] = starts.run(order), folder
        return made[key]

    return run


def prepare(order, kind):
    """Have a run keep its journal as it does on a network file system, where that is wanted."""
    if kind == "segments":
        (Path(order["folder"]) / "run" / "journal").mkdir(parents=True)


def crash(starts, order, place, whole):
    """Have a start die; what it leaves is all of an output, or the old one, and no lock."""
    ended = starts.run(order, failpoint=place)

    folder = Path(order["folder"])
    for name, data in files_in(folder).items():
        assert name.endswith(".partial") or data in (_OLD, whole[name])
    assert holder(folder / "run") is None
    return ended["code"]


def check_end(starts, order, expected, whole):
    """Check that a run goes on to the end of a clean one, and that one more start does nothing."""
    folder = Path(order["folder"])
    ended = starts.run(order)
    published = (folder / order["output"]).stat()

    again = starts.run(order)

    assert files_in(folder) == whole
    assert account_of(ended) == account_of(again) == account_of(expected)
    assert (folder / order["output"]).stat().st_ino == published.st_ino
    assert holder(folder / "run") is None


@pytest.mark.parametrize(
    ("output", "place"),
    [
        *(("out.jsonl", place) for place in [*_COMMITS, *_WORK, *_EXPORTS]),
        *((name, place) for name in ("out.csv", "out.jsonl.gz") for place in _EXPORTS),
    ],
)
def test_output_is_that_of_a_clean_run(starts, clean, tmp_path, output, place):
    """Killed twice in one place and started again, a run ends with the bytes of a clean one."""
    expected, folder = clean("plain", output)
    whole = files_in(folder)
    order = order_in(tmp_path / "of", "plain", output)

    codes = [crash(starts, order, place, whole) for _ in range(2)]

    # The second start may be past the place, with so much done by the first.
    assert codes[0] == _KILLED
    assert codes[1] in (_KILLED, 0)
    check_end(starts, order, expected, whole)
    assert names_in(tmp_path / "of" / "run") == names_in(folder / "run")


@pytest.mark.parametrize("place", [*_COMMITS, "committed:2", "published:1"])
def test_segments_hold_as_well(starts, clean, tmp_path, place):
    """The journal for network file systems brings a killed run to the same end."""
    expected, folder = clean("plain", "out.jsonl", "segments")
    whole = files_in(folder)
    order = order_in(tmp_path / "of", "plain")
    prepare(order, "segments")

    codes = [crash(starts, order, place, whole) for _ in range(2)]

    assert codes[0] == _KILLED
    check_end(starts, order, expected, whole)
    assert whole == files_in(clean("plain", "out.jsonl")[1])


@pytest.mark.parametrize("place", ["commit:3", "committed:3", "work:5", "export:1", "rename:2"])
def test_a_second_try_of_what_failed_may_die(starts, clean, tmp_path, place):
    """Killed as it tries again what failed, a run takes nothing back that it does not redo."""
    expected, folder = clean("plain", "out.jsonl")
    whole = files_in(folder)
    order = order_in(tmp_path / "of", "plain")
    starts.run(order)
    order["options"]["retry_failed"] = True

    codes = [crash(starts, order, place, whole) for _ in range(2)]

    assert codes == [_KILLED, _KILLED]
    del order["options"]["retry_failed"]
    check_end(starts, order, expected, whole)


@pytest.mark.parametrize("place", ["commit:3", "committed:3", "work:5", "commit:4", "rename:2"])
def test_a_run_whose_input_grew_may_die(starts, clean, tmp_path, place):
    """Killed after rows were added in between and at the end, a run ends as if they had been."""
    expected, folder = clean("plain", "out.jsonl")
    whole = files_in(folder)
    order = order_in(tmp_path / "of", "plain")
    source = tmp_path / "of" / "input.jsonl"
    rows = source.read_text().splitlines(keepends=True)
    source.write_text("".join([*rows[:52], *rows[62:-30]]))
    starts.run(order)
    (tmp_path / "of" / "out.jsonl.failed.jsonl").unlink()
    (tmp_path / "of" / "out.jsonl").write_bytes(_OLD)
    source.write_text("".join(rows))
    order["options"]["extend"] = True

    codes = [crash(starts, order, place, whole) for _ in range(2)]
    starts.run(order)

    assert codes == [_KILLED, _KILLED]
    del order["options"]["extend"]
    check_end(starts, order, expected, whole)


@pytest.mark.parametrize(
    "place", [*_CALLS, "commit:4", "committed:5", "commit:8", "work-after-call:1", "published:1"]
)
def test_calls_are_repeated_only_where_they_were_under_way(starts, clean, server, tmp_path, place):
    """A crash costs no more calls than were under way; what was answered and kept is not asked."""
    expected, folder = clean("costly", "out.jsonl")
    whole = files_in(folder)
    order = order_in(tmp_path / "of", "costly", endpoint=server.endpoint)
    before = received(server)

    codes = [crash(starts, order, place, whole) for _ in range(2)]

    assert codes[0] == _KILLED
    check_end(starts, order, expected, whole)
    repeated = received(server) - before - expected["requests"]
    assert 0 <= repeated <= codes.count(_KILLED) * _IN_FLIGHT * _BATCH_SIZE


@pytest.mark.parametrize("place", ["work-after-call:1", "work-after-call:40", "committed:7"])
def test_what_was_answered_and_kept_is_neither_asked_again_nor_left_out_of_the_account(
    starts, clean, server, tmp_path, place
):
    """Killed behind the model's stage, a run asks nothing twice, and reports what all asked."""
    expected, folder = clean("costly", "out.jsonl")
    order = order_in(tmp_path / "of", "costly", endpoint=server.endpoint)
    order["options"]["max_in_flight"] = 1
    before = received(server)

    codes = [crash(starts, order, place, files_in(folder)) for _ in range(2)]
    ended = starts.run(order)

    assert codes[0] == _KILLED
    assert files_in(folder) == files_in(tmp_path / "of")
    assert received(server) - before == expected["requests"]
    assert ended["requests"] == expected["requests"]


def received(server):
    """Return how many requests a server got so far."""
    return sum(counts["received"] for counts in server.ledger().values())


def life_of(record_id, run):
    """Return the life of a record, and how it is told."""
    builder = LifeBuilder(record_id)
    for event in run_events(run):
        builder.add(event)
    life = builder.life(known_rows(run, [record_id]))
    return life, "\n".join(sentences(life, is_held=holder(run) is not None))


def test_the_lives_of_a_killed_run_can_be_told(starts, server, tmp_path):
    """What was under way when it died, what was kept of that, and how the next start went on."""
    order = order_in(tmp_path / "of", "costly", endpoint=server.endpoint)
    run = tmp_path / "of" / "run"
    assert starts.run(order, failpoint="work-after-call:40")["code"] == _KILLED
    some = range(0, 250, 5)
    killed = {n: life_of(f"k{n}", run) for n in some}
    begun = {n: told for n, (life, told) in killed.items() if life.is_known and not life.fate}
    kept = [n for n, told in begun.items() if "What it had after stage 'ask' was kept" in told]

    assert starts.run(order)["code"] == 0
    whole = {n: life_of(f"k{n}", run) for n in some}

    assert kept
    for told in begun.values():
        assert "It was not back when the run was killed, at +" in told
    for n in kept:
        _, told = whole[n]
        assert "It was not back when its start was killed, at +" in told
        assert "It went on after stage 'ask', the result of which start 1 had kept." in told
    for life, _ in whole.values():
        passage = life.passages[-1]
        spent_s = sum(part.seconds for part in passage.breakdown.parts)
        assert spent_s == pytest.approx(passage.latency_s)
        assert life.fate is not None
