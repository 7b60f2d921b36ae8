"""What is declared: stages are checked where they are written down."""

from __future__ import annotations

import pytest

from sage_dask import Collect, FieldSet, FromIterable, Operator, Sink, Source, Stage
from sage_dask.errors import PlanError


class Plain(Operator):
    """Says nothing about its fields."""

    def process_batch(self, records):
        return records


class Writing(Plain):
    """Says what it writes."""

    writes = ("y", "z")


class Waiting(Operator):
    """Is a coroutine."""

    async def process_batch(self, records):
        return records


def test_a_field_set_grows_without_changing():
    """Adding names makes a new set that is as open as the one before."""
    before = FieldSet(frozenset({"a"}), is_open=False)

    after = before | ["b"]

    assert after == FieldSet(frozenset({"a", "b"}), is_open=False)
    assert before.names == {"a"}


def test_an_operator_that_says_nothing_leaves_the_fields_open():
    """What it adds is not known, but what was there is still there."""
    after = Plain().fields_after(FieldSet(frozenset({"a"}), is_open=False))

    assert after == FieldSet(frozenset({"a"}), is_open=True)


def test_an_operator_that_says_what_it_writes_keeps_the_fields_closed():
    """Known fields plus known fields are all fields there are."""
    after = Writing().fields_after(FieldSet(frozenset({"a"}), is_open=False))

    assert after == FieldSet(frozenset({"a", "y", "z"}), is_open=False)


def test_a_coroutine_operator_is_one_that_waits():
    """The planner keeps waiting and computing apart, so it must know which is which."""
    assert Waiting().is_async
    assert not Plain().is_async


def test_a_subclass_needs_to_write_one_method():
    """Everything else has a default that does nothing."""
    operator = Plain()

    assert operator.check() is operator.setup() is operator.teardown() is None
    assert (operator.reads, operator.writes, operator.imports) == ((), None, ())


def test_a_source_and_a_sink_need_little():
    """A source that knows neither its name, its size nor its fields can still be read."""

    class Bare(Source):
        def read(self):
            yield from ()

    class Hole(Sink):
        def write(self, ids, records):
            return ()

        def write_failures(self, failures):
            return None

    assert (Bare().name, Bare().size(), Bare().known_fields()) == ("Bare", None, FieldSet())
    assert (Hole().name, Hole().reads, Hole().abort()) == ("Hole", (), "")
    assert Bare().check() is Hole().check() is Hole().open() is Hole().close() is None


@pytest.mark.parametrize("name", ["embed", "Embed2", "re_rank", "a"])
def test_a_stage_name_is_letters_digits_and_underscores(name):
    """Names become Dask keys, and these survive there."""
    assert Stage(name, Plain()).name == name


@pytest.mark.parametrize("name", ["", "2nd", "_x", "re-rank", "a b", "a+b", "é", "a\n"])
def test_a_name_that_dask_would_cut_is_refused(name):
    """A hyphen is where Dask cuts a key; the message names a form that works."""
    with pytest.raises(PlanError, match=r"is not a letter followed by .* pick one like 'embed'"):
        Stage(name, Plain())


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (len, r"is not an operator; subclass sage_dask.Operator, or use \.map"),
        (Plain, r"Plain is a class; pass an instance: Plain\(\.\.\.\)"),
        (FromIterable([]), "is not an operator"),
        (Collect(), "is not an operator"),
    ],
    ids=["function", "class", "source", "sink"],
)
def test_what_is_no_operator_is_refused(operator, message):
    """A stage without a way to process a batch is told in the line that declares it."""
    with pytest.raises(PlanError, match=message):
        Stage("s", operator)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"attempts": 0}, "attempts=0 must be at least 1"),
        ({"deadline_s": 0}, "deadline_s=0 must be a positive number of seconds"),
        ({"deadline_s": float("nan")}, "deadline_s=nan must be"),
        ({"deadline_s": float("inf")}, "deadline_s=inf must be .* leave it out for no limit"),
        ({"resources": {"LLM": 0}}, "resource 'LLM' asks for 0; ask for a positive amount"),
        ({"resources": {"LLM": float("inf")}}, "asks for inf"),
        ({"resources": {"LLM": float("nan")}}, "asks for nan"),
        ({"gates": {"llm": 0}}, "gate 'llm' asks for 0 slots; ask for a positive whole number"),
        ({"gates": {"llm": -1}}, "gate 'llm' asks for -1 slots"),
        ({"gates": {"llm": 1.5}}, r"gate 'llm' asks for 1\.5 slots"),
        ({"gates": {"llm": True}}, "gate 'llm' asks for True slots"),
        ({"gates": {"embed": 1, "llm": "2"}}, "gate 'llm' asks for '2' slots"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    """Amounts below their least are told with stage, name and value."""
    with pytest.raises(PlanError, match=f"stage 's': .*{message}"):
        Stage("s", Plain(), **options)
