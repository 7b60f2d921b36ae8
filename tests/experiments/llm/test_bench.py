"""The table, the raw results beside it, and what makes the benchmark fail."""

from __future__ import annotations

import json

from sage_dask.experiments.llm import __main__ as command
from sage_dask.experiments.llm.bench import Bench, Scale
from sage_dask.experiments.llm.result import Result
from sage_dask.experiments.table import Row

ROW = Row("what", "1 s", "2 s", 0.5, "<= 1")
RUN = Result(read=3, written=2, failed=0, makespan_s=1.0, cpu_s=0.0, sent=3)


def lines_of(path):
    """Return the lines of a raw file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_raw_results_begin_with_where_they_are_from(tmp_path, monkeypatch, capsys):
    """Commit, command, machine, versions and scale, then each run; the table lies beside."""
    bench = Bench(Scale(requests=7), tmp_path / "raw.jsonl")

    def part(bench):
        bench.note("one", "run", figure=1.5)
        yield ROW

    monkeypatch.setattr(command, "PARTS", {"one": part, "two": lambda bench: iter([ROW, ROW])})
    code = command.run(bench, ["one"], tmp_path)

    origin, run = lines_of(tmp_path / "raw.jsonl")
    assert code == 0
    assert {"command", "commit", "machine", "versions", "started_at"} < origin.keys()
    assert origin["scale"]["requests"] == 7
    assert run == {"part": "one", "what": "run", "figure": 1.5}
    assert (tmp_path / "raw.txt").read_text().splitlines()[1:] == [str(ROW)]
    assert str(ROW) in capsys.readouterr().out


def test_a_lost_record_fails_the_benchmark(tmp_path, monkeypatch, capsys):
    """The table is printed to its end, then the problem, and the exit code says so."""
    bench = Bench(raw=tmp_path / "raw.jsonl")

    def part(bench):
        bench.note_run("one", "run", RUN)
        yield ROW

    monkeypatch.setattr(command, "PARTS", {"one": part})
    code = command.run(bench, [], tmp_path)

    assert code == 1
    assert "PROBLEM: one, run: 1 records lost" in capsys.readouterr().out
    assert [line["part"] for line in lines_of(tmp_path / "raw.jsonl")] == [
        "origin",
        "problem",
        "one",
    ]


def test_without_a_file_nothing_is_kept():
    """Tests and callers that want rows alone need no folder."""
    bench = Bench()

    bench.note("one", "run")
    bench.note_run("one", "run", RUN)

    assert bench.problems == ["one, run: 1 records lost"]
