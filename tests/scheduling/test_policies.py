"""The policies by name: ours, and those that users register."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

from sage_dask.errors import PlanError
from sage_dask.scheduling import policies
from sage_dask.scheduling.fifo import Fifo
from sage_dask.scheduling.load_aware import Pack, Spread
from sage_dask.scheduling.policies import DEFAULT, ENTRY_POINTS, known, make_policy
from sage_dask.scheduling.policy import Placement, Policy
from sage_dask.scheduling.priority import Priority
from sage_dask.scheduling.round_robin import RoundRobin


@dataclass(frozen=True)
class Last(Policy):
    """The last node by name, as a user might write it."""

    name: ClassVar[str] = "last"
    depth: int = 1

    def place(self, task, cluster):
        """Choose it."""
        return Placement(max(node.name for node in cluster.nodes), "last by name")


def not_a_policy():
    """Stand where a class should."""


@pytest.fixture
def registered(monkeypatch):
    """Lend a function that registers entry points, as installed packages would."""

    def register(**objects):
        points = [EntryPoint(name, f"{__name__}:{o}", ENTRY_POINTS) for name, o in objects.items()]

        def fake_entry_points(*, group, name=None):
            assert group == ENTRY_POINTS
            return [point for point in points if name in (None, point.name)]

        monkeypatch.setattr(policies, "entry_points", fake_entry_points)

    return register


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("fifo", Fifo),
        ("round-robin", RoundRobin),
        ("spread", Spread),
        ("load-aware-spread", Spread),
        ("pack", Pack),
        ("load-aware-pack", Pack),
        ("priority", Priority),
    ],
)
def test_policies_have_names(name, kind):
    """Five of them, two with an alias."""
    assert type(make_policy(name)) is kind
    assert name in known()


def test_the_default_is_one_of_them():
    """A run that says nothing spreads."""
    assert isinstance(make_policy(DEFAULT), Spread)


def test_parameters_are_those_of_the_class():
    """By name or for an instance, whose other parameters stay."""
    assert make_policy("pack", target_wait_s=1.0) == Pack(target_wait_s=1.0)
    assert make_policy(Pack(stay_open_s=9.0), target_wait_s=1.0) == Pack(1.0, 9.0)


def test_an_instance_is_as_good_as_a_name():
    """It is taken as it is."""
    mine = Last()

    assert make_policy(mine) is mine


@pytest.mark.parametrize("place", ["pack", Pack()])
def test_priority_takes_the_placing_policy_by_name_or_instance(place):
    """As ``place``, also for a priority that was made before."""
    assert make_policy("priority", place=place) == Priority(place_by=Pack())
    assert make_policy(Priority(ageing=2.0), place=place) == Priority(Pack(), 2.0)


def test_an_unknown_name_is_refused_with_the_nearest():
    """The message lists what there is."""
    with pytest.raises(PlanError, match=r"unknown policy 'sprad'.*'fifo'.*did you mean 'spread'\?"):
        make_policy("sprad")


def test_an_unknown_parameter_is_refused_with_those_there_are():
    """The message names what was given, and the signature."""
    with pytest.raises(PlanError, match=r"'spread' does not take 'target_wait_s'.*memory_weight"):
        make_policy("spread", target_wait_s=1.0)


def test_a_registered_policy_is_known_by_its_name(registered):
    """With its parameters, and beside ours."""
    registered(last="Last")

    assert make_policy("last", depth=3).depth == 3
    assert "last" in known()
    assert "fifo" in known()


def test_a_registered_object_must_be_a_policy(registered):
    """The message shows what was found."""
    registered(odd="not_a_policy")

    with pytest.raises(PlanError, match=r"entry point 'odd' of 'sage_dask.policies' is <function"):
        make_policy("odd")


def test_ours_can_not_be_replaced_by_accident(registered):
    """A package that registers a name of ours does not change what it means."""
    registered(fifo="Last")

    assert isinstance(make_policy("fifo"), Fifo)
