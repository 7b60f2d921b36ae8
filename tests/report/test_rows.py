"""A breakdown as rows: nothing is lost between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.breakdown import RESIDUE, Breakdown, Part
from sage_dask.report.rows import LEAST_SHARE, breakdown_rows, few_rows
from tests.report.building import broken_down

SECONDS = st.floats(-1.0, 1e4) | st.floats(0.0, 1e-3) | st.just(0.0)
PARTS = st.lists(st.tuples(st.text(max_size=3), SECONDS, st.lists(SECONDS, max_size=5)), max_size=9)


@st.composite
def breakdowns(draw):
    """Draw a breakdown whose parts add up to its latency, stages with parts among them."""
    parts = []
    for name, seconds, inner_s in draw(PARTS):
        inner = tuple(Part(f"in-{n}", s, "") for n, s in enumerate(inner_s))
        seconds = sum(inner_s) if inner else seconds
        parts.append(Part(name, seconds, "", is_stage=True, parts=inner))
    residue = Part(RESIDUE, draw(SECONDS), "")
    total = sum(part.seconds for part in parts) + residue.seconds
    return Breakdown(10, total, (*parts, residue))


def sum_of(rows):
    """Return what rows add up to."""
    return sum(row.seconds for row in rows if not row.is_sub_part)


def with_sub_parts(rows):
    """Return each row that is none with its sub-parts."""
    grouped = []
    for row in rows:
        if row.is_sub_part:
            grouped[-1][1].append(row)
        else:
            grouped.append((row, []))
    return grouped


@given(breakdowns(), st.integers(2, 12))
def test_rows_add_up_to_the_latency(breakdown, most):
    """Whatever is summed up, the rows are the whole latency, and sub-parts are their stage."""
    for rows in (breakdown_rows(breakdown), few_rows(breakdown, most)):
        assert sum_of(rows) == pytest.approx(breakdown.latency_s, abs=1e-6)
        for row, inner in with_sub_parts(rows):
            if inner:
                assert sum(each.seconds for each in inner) == pytest.approx(row.seconds, abs=1e-6)


@given(breakdowns(), st.integers(2, 12))
def test_few_rows_are_few(breakdown, most):
    """There are no more than wanted, and the residue is always the last of them."""
    rows = few_rows(breakdown, most)

    assert len(rows) <= most
    assert rows[-1].name == RESIDUE


def test_small_parts_are_one_row_that_names_them():
    """What would read as nothing is summed up, the largest named first; zeros are not named."""
    small = [("a", 0.001), ("b", 0.003), ("c", 0.002), ("d", 0.0001), ("e", 0.0)]

    rows = breakdown_rows(broken_down(("embed", 10.0), *small))

    assert [row.name for row in rows] == ["embed", "other parts (b, c, a and 1 more)", "residue"]
    assert rows[1].is_rest
    assert rows[1].seconds == pytest.approx(0.0061)


def test_a_part_that_is_just_large_enough_has_a_row():
    """The bound is a share of the latency, and the residue has a row whatever it is."""
    rows = breakdown_rows(Breakdown(1, 1.0, (Part("a", LEAST_SHARE, ""), Part(RESIDUE, 1.0, ""))))

    assert [row.name for row in rows] == ["a", RESIDUE]


def test_small_parts_of_a_stage_are_a_row_below_it():
    """A stage's own parts are summed up among themselves."""
    inner = [("generation", 9.0), ("network", 0.0004), ("slot", 0.0006)]

    rows = breakdown_rows(broken_down(("generate", 9.001, *inner)))

    assert [(row.name, row.is_sub_part) for row in rows] == [
        ("generate", False),
        ("generation", True),
        ("other parts (slot, network)", True),
        ("residue", False),
    ]


def test_parts_that_cancel_out_are_one_row():
    """Where more was accounted for than passed, and nothing is left, there is no share of it."""
    parts = [(f"part-{number}", (-1.0) ** number) for number in range(20)]

    rows = few_rows(broken_down(*parts), 5)

    assert [(row.is_rest, row.seconds, row.share) for row in rows] == [
        (True, 0.0, 0.0),
        (False, 0.0, 0.0),
    ]


def test_no_breakdown_has_no_rows():
    """What was not measured is no table of zeros."""
    assert breakdown_rows(Breakdown()) == []


@pytest.mark.parametrize("name", [RESIDUE, "commit", "total"])
def test_a_stage_that_bears_another_rows_name_is_called_a_stage(name):
    """Two rows of one name could not be told apart, and a comparison would lose one of them."""
    parts = (Part(name, 3.0, "", is_stage=True), Part("commit", 1.0, ""), Part(RESIDUE, 1.0, ""))

    rows = breakdown_rows(Breakdown(10, 5.0, parts))

    assert [row.name for row in rows] == [f"stage {name}", "commit", RESIDUE]
