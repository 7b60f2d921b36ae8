"""One suite over all runners: a run that was stopped goes on to the end of one that never was."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from sage_dask import Pipeline, StopRun
from sage_dask.errors import PlanError, RunError, SinkError, SourceError, TooManyFailuresError
from sage_dask.event_file import read_events
from sage_dask.finished import InputChangedError
from sage_dask.journal.lock import holder
from sage_dask.operators import Generate, ReadJsonl, WriteJsonl
from sage_dask.report import Report
from sage_dask.stage import Operator
from sage_dask.testing import FakeChatServer

NUM_RECORDS = 100
BATCH_SIZE = 5
IN_FLIGHT = 3
OPTIONS = {"batch_size": BATCH_SIZE, "max_in_flight": IN_FLIGHT}

COUNTS = ("num_read", "num_written", "num_failed", "num_filtered", "num_expanded")


class Trip:
    """Has whatever looks at it break once, at a number of looks."""

    _lock = threading.Lock()
    left = 0

    @classmethod
    def arm(cls, looks):
        """Have the look of this number break; 0 breaks none."""
        cls.left = looks

    @classmethod
    def is_over(cls):
        """Look, and say whether to break now."""
        with cls._lock:
            cls.left -= 1
            return cls.left == 0


@pytest.fixture(autouse=True)
def untripped():
    """Leave nothing armed."""
    Trip.arm(0)
    yield
    Trip.arm(0)


class Logged(Operator):
    """Notes each record that it is given in a file; fails one in thirteen while it is unlucky."""

    is_lucky = False

    def __init__(self, log):
        self.log = str(log)

    def process_batch(self, records):
        note(self.log, records)
        return [self.outcome(record) for record in records]

    def outcome(self, record):
        """Return what becomes of a record."""
        if record["n"] % 13 == 0 and not Logged.is_lucky:
            return ValueError(f"{record['n']} is unlucky")
        return {**record, "double": 2 * record["n"]}


class Asked(Logged):
    """Gives one to three parts for a record, drops some, and fails some."""

    def outcome(self, record):
        """Return what becomes of a record."""
        if record["n"] % 11 == 0:
            return ValueError(f"{record['n']} has no answer")
        if record["n"] % 7 == 0:
            return None
        return [{**record, "part": part} for part in range(1 + record["n"] % 3)]


class AskedElsewhere(Asked):
    """Does the same while it waits."""

    async def process_batch(self, records):
        note(self.log, records)
        return [self.outcome(record) for record in records]


class Stopping(Operator):
    """Ends the run where the trip says so."""

    def process_batch(self, records):
        if Trip.is_over():
            raise StopRun("the key was refused")
        return [{**record, "last": record["n"] + 1} for record in records]


def note(log, records):
    """Note that records are worked on, in one write, so that threads do not mix."""
    lines = "".join(f"{record['n']}\n" for record in records)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, lines.encode())
    os.close(file)


def calls(log):
    """Return how often each record was worked on."""
    return Counter(map(int, Path(log).read_text().split()))


def write_input(folder, numbers=range(NUM_RECORDS)):
    """Write records with unreadable rows and ids that were there before among them."""
    lines = []
    for n in numbers:
        lines.append(json.dumps({"key": f"k{n}", "n": n, "p": n // 8 % 3}))
        if n % 20 == 0:
            lines.append('{"key": "broken')
        if n % 15 == 14:
            lines.append(json.dumps({"key": f"k{n}", "n": 1000 + n, "p": 1}))
    folder.mkdir(exist_ok=True)
    (folder / "input.jsonl").write_text("\n".join(lines) + "\n")


def pipeline(folder, *, ask=Asked, sink=WriteJsonl, source=ReadJsonl):
    """Return a pipeline in which records of every fate follow each other."""
    return (
        Pipeline("p")
        .source(source(str(folder / "input.jsonl"), id="key"))
        .stage("work", Logged(folder / "work.log"), batch_size=2)
        .stage("ask", ask(folder / "ask.log"), memo=ask is not Asked or None, fuse=False)
        .stage("stop", Stopping(), fuse=False)
        .sink(sink(str(folder / "out.jsonl")))
    )


def outputs(folder):
    """Return the bytes of output and failed file."""
    return [path.read_bytes() for path in sorted(folder.glob("out*")) if path.suffix != ".partial"]


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Lend the folder and the report of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("clean") / "of"
    write_input(folder)
    return folder, pipeline(folder).run(run_dir=folder / "run", **OPTIONS)


def account(report):
    """Return the counts of a report."""
    return [getattr(report, each) for each in COUNTS]


def check_end(folder, report, clean):
    """Check that a run ended as the one that was never stopped did."""
    expected_folder, expected = clean
    assert outputs(folder) == outputs(expected_folder)
    assert [getattr(report, each) for each in COUNTS] == [
        getattr(expected, each) for each in COUNTS
    ]
    assert report.failures == expected.failures
    assert report.is_done
    assert Report.from_events(read_events(folder / "run" / "events.jsonl")) == report
    assert holder(folder / "run") is None
    report.check_account()


def check_calls(folder, clean, most):
    """Check that no more records than some were worked on twice, and none more often than that."""
    found = calls(folder / "work.log")
    expected = calls(clean[0] / "work.log")
    assert found.keys() == expected.keys()
    assert sum(found.values()) - sum(expected.values()) <= most


class ObserverError(Exception):
    """Raised by an observer."""


def breaking_observer(progress):
    """Break once some records are done."""
    if progress.num_read - progress.num_before >= 30:
        raise ObserverError("enough")


# What stops a run, and how many records are worked on twice for it.
STOPS = {
    "observer": (ObserverError, {"observer": breaking_observer}, IN_FLIGHT * BATCH_SIZE),
    "stage": (StopRun, {}, IN_FLIGHT * BATCH_SIZE),
    "max_errors": (TooManyFailuresError, {"max_errors": 9}, 0),
    "max_errors_share": (TooManyFailuresError, {"max_errors": 0.1}, 0),
}


@pytest.mark.parametrize("how", STOPS)
def test_a_stopped_run_goes_on_to_the_same_bytes(on, tmp_path, clean, how):
    """The same call again ends like a run that was never stopped, and repeats little."""
    folder = tmp_path / "of"
    write_input(folder)
    kind, options, most = STOPS[how]
    Trip.arm(9 if how == "stage" else 0)

    with pytest.raises(kind) as told:
        pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS, **options)
    published = outputs(folder)
    report = pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)

    assert published == []
    assert "records safe in" in told.value.__notes__[0]
    assert report.num_starts == 2
    check_end(folder, report, clean)
    check_calls(folder, clean, most)


def test_a_source_that_broke_is_read_again(on, tmp_path, clean):
    """What it gave before the cable was pulled is done, and nothing of that is worked on twice."""

    class Cable(ReadJsonl):
        def read(self):
            for place, item in enumerate(super().read()):
                # Planning looks at the first hundred.
                if place == 107:
                    raise OSError("cable pulled")
                yield item

    folder = tmp_path / "of"
    write_input(folder)

    with pytest.raises(SourceError, match="broke after record 107: OSError: cable pulled"):
        pipeline(folder, source=Cable).run(on, run_dir=folder / "run", **OPTIONS)
    report = pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)

    check_end(folder, report, clean)
    check_calls(folder, clean, most=0)


def test_a_sink_that_broke_costs_no_work(on, tmp_path, clean):
    """All is done when the output is written, so that the next start only writes."""

    class Full(WriteJsonl):
        def write(self, ids, records):
            raise SinkError("disk full")

    folder = tmp_path / "of"
    write_input(folder)

    with pytest.raises(SinkError, match="disk full"):
        pipeline(folder, sink=Full).run(on, run_dir=folder / "run", **OPTIONS)
    report = pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)

    check_end(folder, report, clean)
    check_calls(folder, clean, most=0)


def test_a_run_may_be_stopped_again_and_again(on, tmp_path, clean):
    """Each start does some more, until one comes to the end."""
    folder = tmp_path / "of"
    write_input(folder)
    starts = 1

    while starts < 20:
        try:
            report = pipeline(folder).run(
                on, run_dir=folder / "run", observer=breaking_observer, **OPTIONS
            )
            break
        except ObserverError:
            starts += 1

    assert 3 <= report.num_starts == starts < 20
    check_end(folder, report, clean)
    check_calls(folder, clean, most=starts * IN_FLIGHT * BATCH_SIZE)


@pytest.mark.parametrize("options", [{"ordered": False}, {"record_priority": "p"}])
def test_the_order_of_work_changes_nothing(on, tmp_path, clean, options):
    """Batches that are done as they come, or by urgency, are exported in the order of reading."""
    folder = tmp_path / "of"
    write_input(folder)

    with pytest.raises(ObserverError):
        pipeline(folder).run(
            on, run_dir=folder / "run", observer=breaking_observer, **OPTIONS, **options
        )
    report = pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS, **options)

    check_end(folder, report, clean)


def test_a_run_that_is_done_does_nothing_more(on, tmp_path, clean):
    """One more start reads, works on nothing, and leaves the output alone."""
    folder = tmp_path / "of"
    write_input(folder)
    pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)
    published = (folder / "out.jsonl").stat()

    report = pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)

    check_end(folder, report, clean)
    check_calls(folder, clean, most=0)
    assert (folder / "out.jsonl").stat().st_ino == published.st_ino


def test_a_run_goes_on_wherever_there_is_room(tmp_path, clean, cluster_client):
    """Begun in this process, gone on with on a cluster, and ended here."""
    folder = tmp_path / "of"
    write_input(folder)

    for where in (None, cluster_client):
        with pytest.raises(ObserverError):
            pipeline(folder).run(
                where, run_dir=folder / "run", observer=breaking_observer, **OPTIONS
            )
    report = pipeline(folder).run(run_dir=folder / "run", **OPTIONS)

    assert report.num_starts == 3
    check_end(folder, report, clean)


@pytest.mark.parametrize("ask", [type("Kept", (Asked,), {}), AskedElsewhere])
def test_what_a_costly_stage_made_is_not_made_again(on, tmp_path, clean, ask):
    """Though later stages were stopped, each record is asked once, and ends as it would have."""
    folder = tmp_path / "of"
    write_input(folder)
    alone = {**OPTIONS, "max_in_flight": 1}

    for _ in range(4):
        Trip.arm(3)
        with pytest.raises(StopRun):
            pipeline(folder, ask=ask).run(on, run_dir=folder / "run", **alone)
    Trip.arm(0)
    report = pipeline(folder, ask=ask).run(on, run_dir=folder / "run", **alone)

    assert set(calls(folder / "ask.log").values()) == {1}
    check_end(folder, report, clean)


def test_records_that_failed_are_tried_again_when_asked_for(on, tmp_path, clean, monkeypatch):
    """Those alone are worked on; the output has them in their places, and the account is whole."""
    folder = tmp_path / "of"
    write_input(folder)
    first = pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)
    before = calls(folder / "work.log")
    again = pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)
    monkeypatch.setattr(Logged, "is_lucky", True)

    report = pipeline(folder).run(on, run_dir=folder / "run", retry_failed=True, **OPTIONS)

    written = [json.loads(line)["n"] for line in (folder / "out.jsonl").open()]
    repeated = calls(folder / "work.log") - before
    assert again.num_failed == first.num_failed
    assert written == sorted(written)
    assert {13, 26, 39} <= set(written)
    assert set(repeated) == {n for n in range(NUM_RECORDS) if n % 13 == 0 or n % 11 == 0}
    assert set(repeated.values()) == {1}
    assert report.num_read == first.num_read
    assert first.num_failed - report.num_failed == sum(
        n % 13 == 0 and n % 11 != 0 for n in range(NUM_RECORDS)
    )
    report.check_account()


@pytest.mark.parametrize("is_stopped", [False, True])
def test_an_input_may_grow_anywhere(on, tmp_path, clean, is_stopped):
    """Records in front, between and behind are worked on alone; the output has all in order."""
    folder = tmp_path / "of"
    old = [*range(5, 40), *range(50, 90)]
    write_input(folder, old)
    if is_stopped:
        with pytest.raises(ObserverError):
            pipeline(folder).run(on, run_dir=folder / "run", observer=breaking_observer, **OPTIONS)
    else:
        pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)
    write_input(folder)

    with pytest.raises(InputChangedError):
        pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)
    with pytest.raises(ObserverError):
        pipeline(folder).run(
            on, run_dir=folder / "run", observer=breaking_observer, extend=True, **OPTIONS
        )
    report = pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)

    check_end(folder, report, clean)
    check_calls(folder, clean, most=3 * IN_FLIGHT * BATCH_SIZE)


def test_an_input_that_grew_is_refused_unasked(on, tmp_path):
    """Rows behind the end of a run that read its whole input are news, and told as such."""
    folder = tmp_path / "of"
    write_input(folder, range(1, 9))
    pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)
    before = outputs(folder)
    write_input(folder, range(1, 10))

    with pytest.raises(InputChangedError, match="it had 8 rows, and has more"):
        pipeline(folder).run(on, run_dir=folder / "run", **OPTIONS)

    assert outputs(folder) == before


def test_a_budget_that_is_raised_lets_the_run_go_on(on, tmp_path):
    """What was spent before counts; the rest is asked for once there is money for it."""
    write_input(tmp_path, range(1, 13))
    (tmp_path / "input.jsonl").write_text(
        "".join(json.dumps({"key": n, "prompt": "two words"}) + "\n" for n in range(40))
    )
    with FakeChatServer() as server:
        ask = Generate(server.endpoint, "echo", cache=False)
        asking = (
            Pipeline("asking")
            .source(ReadJsonl(str(tmp_path / "input.jsonl"), id="key"))
            .stage("ask", ask)
            .sink(WriteJsonl(str(tmp_path / "out.jsonl")))
        )

        reports = [
            asking.run(on, run_dir=tmp_path / "run", max_tokens=most, **OPTIONS)
            for most in (40, 100, 10_000)
        ]

    assert [report.outcome for report in reports] == ["budget reached", "budget reached", "done"]
    assert 0 < reports[0].num_read < reports[1].num_read < reports[2].num_read == 40
    assert len(server.requests) == 40
    assert reports[2].usage.tokens == 40 * 4
    assert len((tmp_path / "out.jsonl").read_bytes().splitlines()) == 40


def test_failures_of_all_starts_count_against_the_limit(on, tmp_path):
    """A run that had too many failures stops again at once, and works on nothing."""
    write_input(tmp_path)
    for _ in range(2):
        with pytest.raises(TooManyFailuresError, match="more than max_errors=5 allows"):
            pipeline(tmp_path).run(on, run_dir=tmp_path / "run", max_errors=5, **OPTIONS)

    found = calls(tmp_path / "work.log")

    assert set(found.values()) == {1}
    assert len(found) < NUM_RECORDS


class Changed(Logged):
    """Triples instead."""

    def outcome(self, record):
        """Return what becomes of a record."""
        return {**record, "double": 3 * record["n"]}


def test_a_changed_pipeline_goes_on_once_it_is_accepted(on, tmp_path):
    """What is done stays as the old one made it, and the rest is the new one's."""

    def declared(work):
        return (
            Pipeline("p")
            .source(ReadJsonl(str(tmp_path / "input.jsonl"), id="key"))
            .stage("work", work(tmp_path / "work.log"))
            .sink(WriteJsonl(str(tmp_path / "out.jsonl")))
        )

    write_input(tmp_path)
    with pytest.raises(ObserverError):
        declared(Logged).run(on, run_dir=tmp_path / "run", observer=breaking_observer, **OPTIONS)
    with pytest.raises(PlanError, match="--accept-changes work"):
        declared(Changed).run(on, run_dir=tmp_path / "run", **OPTIONS)

    declared(Changed).run(on, run_dir=tmp_path / "run", accept_changes=["work"], **OPTIONS)

    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    factors = [row["double"] // row["n"] for row in rows if row["n"]]
    assert set(factors) == {2, 3}
    assert max(calls(tmp_path / "work.log").values()) <= 2


def test_whoever_watches_sees_all_rows_once_the_run_is_done(on, tmp_path):
    """The growing file of the last start holds what every start did, in some order."""
    write_input(tmp_path)
    with pytest.raises(ObserverError):
        pipeline(tmp_path).run(
            on, run_dir=tmp_path / "run", follow=True, observer=breaking_observer, **OPTIONS
        )

    report = pipeline(tmp_path).run(on, run_dir=tmp_path / "run", follow=True, **OPTIONS)

    rows = [json.loads(line) for line in (tmp_path / "run" / "growing.jsonl").open()]
    written = [{"id": row["id"], **row["record"]} for row in rows if "record" in row]
    output = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert Counter(map(str, written)) == Counter(map(str, output))
    assert sum("failed" in row for row in rows) == report.num_failed


def test_a_run_that_another_start_holds_is_refused(on, tmp_path):
    """Two starts at once would write one journal; the later one is told who has it."""
    write_input(tmp_path)
    told = []

    def start_again(progress):
        if not told:
            with pytest.raises(RunError) as error:
                pipeline(tmp_path).run(run_dir=tmp_path / "run")
            told.append(str(error.value))

    report = pipeline(tmp_path).run(on, run_dir=tmp_path / "run", observer=start_again, **OPTIONS)

    assert f"is in use by process {os.getpid()}" in told[0]
    assert report.num_starts == 1
