"""Findings, and how they are counted."""

from __future__ import annotations

from sage_dask.doctor.finding import Mark, count_marks, fail, ok, refused, summary, warn


def test_marks_are_counted_and_summed_up():
    """Marks that no finding bears are counted, too."""
    findings = [ok("cores", "2"), warn("disk", "full", "free some"), ok("memory", "4 GiB")]

    assert count_marks(findings) == {Mark.OK: 2, Mark.NOTE: 0, Mark.WARN: 1, Mark.FAIL: 0}
    assert summary(findings) == "3 findings: 2 ok, 0 note, 1 warn, 0 fail"


def test_an_error_of_ours_becomes_what_is_wrong_and_the_mend():
    """Messages say both, with a semicolon between; one without a mend still advises."""
    assert refused("x", "it is 3, not 4; add one; or two") == fail(
        "x", "it is 3, not 4", "add one; or two"
    )
    assert refused("x", "it is 3").advice
