"""The benchmark runs and tells ratios; how large they are is not for a test."""

from __future__ import annotations

import sys

import pytest

from sage_dask.experiments import bench


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    """Lend a benchmark whose sections take next to nothing."""
    monkeypatch.setattr(bench, "NUM_NO_OPS", 50)
    monkeypatch.setattr(bench, "NUM_BURNS", 2)
    monkeypatch.setattr(bench, "NUM_TEXTS", 8)
    monkeypatch.setattr(bench, "in_turn", lambda rounds, ours, plain: (ours(), plain()))


def test_measurements_are_taken_in_turn_and_their_medians_told(monkeypatch):
    """Ours and the baseline alternate, so that a slow minute hits both."""
    monkeypatch.undo()
    order = []

    def measure(name, values):
        order.append(name)
        return values.pop()

    medians = bench.in_turn(
        3,
        lambda slow=[9.0, 1.0, 2.0]: measure("o", slow),
        lambda fast=[7.0, 8.0, 1.0]: measure("p", fast),
    )

    assert "".join(order) == "opopop"
    assert medians == (2.0, 7.0)


@pytest.mark.parametrize("section", ["local", "dask"])
def test_a_section_yields_rows_with_a_ratio(section):
    """Each row has a figure, its baseline and what is wanted of their ratio."""
    rows = list(bench.SECTIONS[section]())

    assert len(rows) == {"local": 1, "dask": 2}[section]
    assert all(row.ratio > 0 for row in rows)
    assert all(row.what and row.measured and row.baseline and row.wanted for row in rows)


@pytest.mark.slow
@pytest.mark.rag
def test_the_embedding_section_yields_a_row():
    """Ours is measured against the library's own call on the same texts."""
    (row,) = bench.embed()

    assert row.what == "embedding 8 questions, in process, 1 thread"
    assert row.ratio > 0


def test_the_table_has_a_line_per_row(monkeypatch, capsys):
    """Only the sections that were named are run."""
    row = bench.Row("what", "1 s", "2 s", 0.5, "<= 1")
    monkeypatch.setattr(bench, "SECTIONS", {"one": lambda: iter([row]), "two": lambda: iter([row])})
    monkeypatch.setattr(sys, "argv", ["bench", "one"])

    bench.main()

    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["what", "measured", "beside", "it", "ratio", "wanted"]
    assert line.split() == ["what", "1", "s", "2", "s", "0.50", "<=", "1"]
