"""Cluster-wide gates: so many slots per name, whoever holds them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.scheduling.gate import Gate, Gates, GateStatistics


def test_a_gate_that_nobody_limited_lets_everything_through_and_counts():
    """What is held is known when a limit comes later."""
    gates = Gates()

    assert gates.have_room((("llm", 1000.0),))
    gates.take((("llm", 1000.0),))
    gates.set_limit("llm", 4)

    assert gates.statistics() == {"llm": GateStatistics(4, 1000.0)}
    assert not gates.have_room((("llm", 1.0),))


def test_a_limit_is_reached_exactly():
    """Four slots take four, and a fraction of nothing more."""
    gates = Gates()
    gates.set_limit("llm", 4)
    gates.take((("llm", 3.0),))

    assert gates.have_room((("llm", 1.0),))
    assert not gates.have_room((("llm", 1.1),))


def test_fractions_that_add_up_fit():
    """Three times 0.1 and 0.7 are one, though not in floating point."""
    gates = Gates()
    gates.set_limit("llm", 1)
    for _ in range(3):
        gates.take((("llm", 0.1),))

    assert gates.have_room((("llm", 0.7),))


def test_zero_closes_and_none_opens():
    """A closed gate lets nothing through, one without a limit everything."""
    gates = Gates()
    gates.set_limit("llm", 0)
    assert not gates.have_room((("llm", 1.0),))
    assert not gates["llm"].could_ever(1.0)

    gates.set_limit("llm", None)

    assert gates.have_room((("llm", 1.0),))
    assert gates["llm"].could_ever(1.0)


def test_a_limit_below_what_is_held_takes_nothing_away():
    """Nothing starts until enough has come back."""
    gates = Gates()
    gates.set_limit("llm", 4)
    gates.take((("llm", 4.0),))

    gates.set_limit("llm", 2)
    gates.give_back((("llm", 2.0),))
    assert not gates.have_room((("llm", 1.0),))
    gates.give_back((("llm", 1.0),))

    assert gates.have_room((("llm", 1.0),))


def test_room_in_one_of_two_gates_is_not_enough():
    """A task that needs both waits for both."""
    gates = Gates()
    gates.set_limit("llm", 1)
    gates.set_limit("db", 1)
    gates.take((("db", 1.0),))

    assert not gates.have_room((("db", 1.0), ("llm", 1.0)))
    assert gates.have_room((("llm", 1.0),))


@pytest.mark.parametrize("limit", [-1, -0.5, float("nan")])
def test_a_limit_must_be_a_number_of_slots(limit):
    """The message names the gate and what was given, and the old limit stays."""
    gates = Gates()
    gates.set_limit("llm", 3)

    with pytest.raises(PlanError, match="gate 'llm': a limit of"):
        gates.set_limit("llm", limit)

    assert gates.limits() == {"llm": 3}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4)), max_size=30))
def test_gates_agree_with_sums(taken):
    """Whatever is taken and given back again, held is the sum of what is out."""
    gates, out = Gates(), []

    for name, slots in taken:
        if out and slots == 4:
            gates.give_back(out.pop())
        else:
            gates.take(((name, float(slots)),))
            out.append(((name, float(slots)),))

        for gate in gates:
            assert gate.held == sum(n for ((name, n),) in out if name == gate.name)


def test_only_limits_that_are_set_are_listed():
    """A gate that is merely counted has none."""
    gates = Gates()
    gates.take((("db", 1.0),))
    gates.set_limit("llm", 2)

    assert gates.limits() == {"llm": 2}


def test_a_gate_tells_its_state():
    """Held and limit are in its repr."""
    gate = Gate("llm")
    assert repr(gate) == "<Gate 'llm' 0/unlimited held>"

    gate.limit, gate.held = 4, 3

    assert repr(gate) == "<Gate 'llm' 3/4 held>"
