"""The whole table, on screens of all sizes."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from sage_dask.progress.overview import Overview
from sage_dask.progress.table import table
from sage_dask.report import StageCost
from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import ServerStatistics
from tests.progress.building import ASKING, progress_of, report_of, row_of

URL = "http://gpu-0:8000/v1"


def server(**others):
    """Return a model server that is busy."""
    told = {
        "limit": 64,
        "is_adaptive": True,
        "in_flight": 60,
        "allotted": 64,
        "waiting": 4.0,
        "running": 60.0,
        "reason": "saturated",
        "down_s": None,
    }
    return ServerStatistics(**{**told, **others})


def lines(overview, width=120, height=100):
    """Return a table as plain lines."""
    return [line.plain for line in table(overview, width, height)]


def full():
    """Return a job that has everything there is to show."""
    report = report_of(
        stages={"embed": StageCost(1.0, 100, 100), "generate": ASKING},
        failures={f"q-{n}": "generate: HTTPError: 400 bad request" for n in range(5)},
    )
    job = row_of(
        num_read=1_200,
        expected=4_000,
        num_failed=5,
        eta_s=96.0,
        tokens=123_456,
        cost=1.23,
        notes=("no progress for 30 s: gate 'llm' is closed",),
        report=report,
    )
    return Overview([job], {"llm": GateStatistics(32, 32)}, {URL: server(down_s=12.0)})


def test_everything_is_told_where_there_is_room():
    """Job, stages, gates and servers, the latest failures, notes; figures with their units."""
    assert lines(full()) == [
        (
            "job                                records       rate      left   elapsed       P50"
            "       P99   failed  tokens      cost"
        ),
        (
            "rag       ━━━─────────      1,200 of 4,000     10.0/s      1:36      0:10  500.0 ms"
            "    2.25 s        5    123k      1.23"
        ),
        "stage            in      out  ms/record   busy  requests  retries  tokens/s",
        "  embed         100      100      10.00    10%",
        "  generate      100       90      90.00    90%     1,212        3      2.5k",
        "gates and servers         limit  in flight  waiting",
        "  llm                        32         32",
        "  http://gpu-0:8000/v1       64         60        4  down for 12 s",
        "failed  q-2: generate: HTTPError: 400 bad request",
        "failed  q-3: generate: HTTPError: 400 bad request",
        "failed  q-4: generate: HTTPError: 400 bad request",
        "note    no progress for 30 s: gate 'llm' is closed",
    ]


def test_at_80_columns_what_has_no_column_has_a_line():
    """Nothing is lost on an ordinary terminal."""
    assert lines(full(), width=80)[:3] == [
        "job                              records       rate      left   elapsed   failed",
        "rag       ━━━───────      1,200 of 4,000     10.0/s      1:36      0:10        5",
        "  P50 500.0 ms   P99 2.25 s   tokens 123k   cost 1.23",
    ]


def test_at_60_columns_there_is_no_bar():
    """Name, counts, rate and times have room; requests of stages have not."""
    shown = lines(full(), width=60)

    assert shown[1] == "rag        1,200 of 4,000     10.0/s      1:36      0:10"
    assert "failed 5" in shown[2]
    assert shown[3] == "stage            in      out  ms/record   busy"


@pytest.mark.parametrize("width", [1, 5, 20, 40, 60, 80, 120, 300])
@pytest.mark.parametrize("height", [1, 2, 5, 10, 23])
def test_no_table_is_larger_than_its_screen(width, height):
    """Names in wide letters, huge counts and many jobs included; the end says what is left out."""
    name = "東京の長い名前のパイプライン" * 3
    report = report_of(stages={name: StageCost(9e6, 10**12, 10**12)}, failures={name: name * 9})
    jobs = [
        row_of(name, num_read=10**12, expected=10**13, rate=1e9, notes=(name * 9,), report=report)
        for _ in range(4)
    ]

    shown = lines(
        Overview(jobs, {name: GateStatistics(10**9, 10**9)}, {URL: server()}), width, height
    )

    assert len(shown) <= height
    assert max(map(cell_len, shown)) <= width


def test_stages_fold_to_one_line_where_rows_are_few():
    """What they are busy with stays, most of all the first; jobs keep their rows."""
    shown = lines(full(), width=80, height=10)

    assert "  busy with generate 90%, embed 10%" in shown
    assert not any(line.startswith("stage") for line in shown)
    assert shown[1].startswith("rag")


def test_columns_do_not_jump_as_counts_grow():
    """A job that has done nothing and one that has done all have their figures in one place."""
    ends = []
    for done in (0, 999, 123_456):
        job = row_of(num_read=done, expected=123_456, report=report_of(num_written=done))
        title, row, *_ = lines(Overview([job]))
        ends.append((title, row.index("/s"), len(row.rstrip())))

    assert len({(title, rate) for title, rate, _ in ends}) == 1


def test_a_run_without_a_record_yet_shows_its_counts():
    """Nothing is divided by nothing, and what nobody knows is left out."""
    job = row_of(num_read=0, expected=None, rate=0.0, elapsed_s=0.0, report=None)

    assert lines(Overview([job]))[1].split() == ["rag", "0", "0.0/s", "-", "0:00", "0"]


def test_words_of_others_stand_as_they_are_and_give_no_orders():
    """Markup is text, and what would move the cursor does not reach the screen."""
    evil = "[red]x[/red]\x1b[2J\r\n\x07"
    report = report_of(stages={evil: StageCost(1.0, 1, 1)}, failures={evil: evil})
    job = row_of(evil, notes=(evil,), report=report)
    gates, servers = {evil: GateStatistics(1, 1)}, {evil: server()}

    text = "\n".join(lines(Overview([job], gates, servers, [evil], evil)))

    assert text.count("[red]x[/red]") == 9
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_jobs_stand_below_each_other_and_their_stages_below_them():
    """Each group of stages bears the name of its job."""
    jobs = [row_of("index", report=report_of()), row_of("rag", report=report_of())]

    names = [line.split()[0] for line in lines(Overview(jobs))]

    stages = ["embed", "generate"]
    assert names == ["job", "index", "rag", "stage", "index:", *stages, "rag:", *stages]


def test_a_note_of_several_jobs_is_said_once():
    """A server that is down holds up all of them; a note of one bears its name."""
    jobs = [row_of("a", notes=("gpu-0 is down",)), row_of("b", notes=("gpu-0 is down", "slow"))]

    notes = [line for line in lines(Overview(jobs)) if line.startswith("note")]

    assert notes == ["note    gpu-0 is down", "note    b: slow"]


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ("done", "done"),
        ("paused", "paused"),
        ("silent", "silent"),
        ("lost", "lost"),
        ("KeyboardInterrupt", "stopped"),
    ],
)
def test_a_job_that_does_not_run_says_so_instead_of_the_time_left(state, word):
    """In one word, where people look for the end."""
    assert lines(Overview([row_of(state=state)]))[1].split()[3] == word


def test_a_job_that_broke_off_says_why():
    """With the words of what ended it, below its row."""
    report = report_of("StalledError", message="no progress for\n3600 s: gate 'llm' is closed")

    shown = lines(Overview([row_of(state="StalledError", report=report)]))

    assert shown[2] == "  StalledError: no progress for 3600 s: gate 'llm' is closed"


def test_a_closed_gate_and_one_without_limit_are_told():
    """A limit of none is no number."""
    gates = {"llm": GateStatistics(0, 0), "free": GateStatistics(None, 2)}

    shown = lines(Overview(gates=gates))

    assert [line.split() for line in shown[1:]] == [
        ["llm", "0", "0", "closed"],
        ["free", "none", "2"],
    ]


def test_progress_of_a_plan_of_nothing_is_full():
    """An empty input is done."""
    job = row_of(num_read=0, expected=0, state="done", rate=0.0)

    assert "━" in lines(Overview([job]))[1]
    assert "─" not in lines(Overview([job]))[1]
    assert progress_of(0).outcome == "running"
