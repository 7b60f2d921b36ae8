"""What became of the records of a batch, as rows of a journal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.admitted import admitted
from sage_dask.durable.settlement import pack_whatever, rows_of, settled
from sage_dask.errors import RunError
from sage_dask.intake import Intake, Places
from sage_dask.journal.rows import Row, unpack
from sage_dask.plan import WRITE
from sage_dask.record import Batch, Failure


def places(*ids, **more):
    """Return places of records that stand one after the other from place 10."""
    seqs = list(range(10, 10 + len(ids)))
    return Places(list(ids), seqs, [each.encode() for each in ids], **more)


def set_out(where, failures=()):
    """Return what is kept of a batch of records {"in": id} that sets out."""
    batch = Batch(0, list(where.ids), [{"in": each} for each in where.ids], list(failures))
    return admitted(Intake(batch, where), 0.0)


def rows(batch, kept):
    """Return what a journal keeps of a batch."""
    return [unpack(entry) for entry in settled(batch, kept)]


def test_each_record_gets_what_it_became():
    """Outputs, failures and drops go to the record that they came from, in their order."""
    where = places("a", "b", "c", "d")
    failed = Failure("a/1", "split", "ValueError", "no", root="a")
    batch = Batch(
        0,
        ["a/0", "a/2", "d"],
        [{"p": 0}, {"p": 2}, {"q": 1}],
        [failed],
        ["b", "b", "c"],
        num_expanded=3,
        roots={"a/0": "a", "a/1": "a", "a/2": "a"},
    )

    a, b, c, d = rows_of(batch, where)

    assert (a.seq, a.id, a.digest) == (10, "a", b"a")
    assert a.outputs == [("a/0", {"p": 0}), ("a/2", {"p": 2})]
    assert (a.failures, a.num_filtered, a.num_expanded) == ([failed], 0, 2)
    assert (b.outputs, b.failures, b.num_filtered, b.num_expanded) == ([], [], 2, 1)
    assert (c.num_filtered, c.num_expanded) == (1, 0)
    assert d.outputs == [("d", {"q": 1})]


@given(st.lists(st.lists(st.sampled_from(["out", "fail", "drop"]), min_size=1, max_size=3)))
def test_the_rows_account_for_the_whole_batch(fates):
    """Counts of the rows add up to those of the batch, whatever became of each record."""
    batch = Batch(0, [], [])
    for n, parts in enumerate(fates):
        batch.num_expanded += len(parts) - 1
        for number, fate in enumerate(parts):
            child = f"{n}/{number}"
            batch.roots[child] = str(n)
            if fate == "out":
                batch.ids.append(child)
                batch.records.append({})
            elif fate == "fail":
                batch.failures.append(Failure(child, "s", "E", "no", root=str(n)))
            else:
                batch.filtered.append(str(n))

    found = rows_of(batch, places(*map(str, range(len(fates)))))

    assert [len(r.outputs) + len(r.failures) + r.num_filtered for r in found] == [
        len(parts) for parts in fates
    ]
    assert sum(row.num_expanded for row in found) == batch.num_expanded


def test_failures_are_kept_with_the_record_as_it_was_read():
    """What the journal keeps is enough to write the failed file."""
    where = places("a", "b")
    batch = Batch(0, ["a"], [{"y": 1}], [Failure("b", "map", "ValueError", "no")])

    good, bad = rows(batch, set_out(where))

    assert (good.is_failed, bad.is_failed) == (False, True)
    assert bad.failures[0].record == {"in": "b"}
    assert batch.failures[0].record == {"in": "b"}


def test_refused_rows_are_kept_by_their_places():
    """What is unreadable or repeated is kept by place, so that no id is taken twice."""
    where = places(
        "a",
        refused_ids=[None, None, "b"],
        refused_seqs=[3, 8, 9],
        refused_digests=[b"", b"again", b"b"],
    )
    refused = [
        Failure("line-4", "read", "JSONDecodeError", "no"),
        Failure("a", "read", "DuplicateIdError", "again", record={"in": "a"}),
        Failure("b", "read", "PriorityError", "high", record={"in": "b"}),
    ]

    found = rows(Batch(0, ["a"], [{}]), set_out(where, refused))

    assert [(row.seq, row.id, row.digest, row.failures) for row in found] == [
        (10, "a", b"a", []),
        (3, None, b"", [refused[0]]),
        (8, None, b"again", [refused[1]]),
        (9, "b", b"b", [refused[2]]),
    ]


def test_a_record_that_has_no_form_fails_alone():
    """It is failed as if the output had refused it; its neighbours and its siblings stay."""
    where = places("a", "b")
    batch = Batch(
        0,
        ["a/0", "a/1", "b"],
        [{"x": object()}, {"x": 1}, {"x": 2}],
        num_expanded=1,
        roots={"a/0": "a", "a/1": "a"},
    )

    a, b = rows(batch, set_out(where))

    (failure,) = a.failures
    assert (failure.id, failure.root, failure.stage, failure.error) == (
        "a/0",
        "a",
        WRITE,
        "ValueError",
    )
    assert "field 'x' (object) can not be kept in a journal" in failure.message
    assert failure.record == {"in": "a"}
    assert a.outputs == [("a/1", {"x": 1})]
    assert b.outputs == [("b", {"x": 2})]
    assert (batch.ids, batch.failures, batch.num_read) == (["a/1", "b"], [failure], 2)


def test_a_failed_input_that_has_no_form_is_kept_as_far_as_it_has():
    """The failure stays what it was; a field without a form says what type it was of."""
    row = Row(0, "a", b"", failures=[Failure("a", "s", "E", "no", record={"x": object(), "y": 1})])

    (failure,) = unpack(pack_whatever(row)).failures

    assert failure.record == {"x": "<object, not kept>", "y": 1}
    assert (failure.id, failure.stage) == ("a", "s")


def test_formless_inputs_of_refused_rows_do_not_stop_a_batch():
    """A record refused while reading may hold anything; the others are kept as they are."""
    where = places("a", refused_ids=[None], refused_seqs=[3], refused_digests=[b"x"])
    refused = [Failure("a", "read", "DuplicateIdError", "again", record={"x": object()})]

    good, bad = rows(Batch(0, ["a"], [{"y": 1}]), set_out(where, refused))

    assert good.outputs == [("a", {"y": 1})]
    assert bad.failures[0].record == {"x": "<object, not kept>"}


def test_an_id_that_is_a_record_s_and_a_part_s_is_refused():
    """Nobody could tell whose output it is, and a later start would lose one of the two."""
    batch = Batch(0, ["a/0", "a/0"], [{}, {}], roots={"a/0": "a"})

    with pytest.raises(RunError, match="both have the id 'a/0'"):
        rows_of(batch, places("a", "a/0"))
