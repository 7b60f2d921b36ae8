"""The policies by name: ours, and those that users register.

A package adds one with an entry point in the group ``sage_dask.policies`` whose
name is the policy's and whose object is its class.  An instance is as good as a
name everywhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from sage_dask.errors import PlanError, did_you_mean, listed
from sage_dask.scheduling.fifo import Fifo
from sage_dask.scheduling.load_aware import Pack, Spread
from sage_dask.scheduling.policy import Policy
from sage_dask.scheduling.priority import Priority
from sage_dask.scheduling.round_robin import RoundRobin

ENTRY_POINTS = "sage_dask.policies"

DEFAULT = Spread.name

_OURS: Mapping[str, type[Policy]] = {
    policy.name: policy for policy in (Fifo, RoundRobin, Spread, Pack, Priority)
}
_ALIASES = {"load-aware-spread": Spread.name, "load-aware-pack": Pack.name}


def known() -> tuple[str, ...]:
    """Return the names that ``make_policy`` takes, aliases and registered ones included."""
    registered = (point.name for point in entry_points(group=ENTRY_POINTS))
    return tuple(sorted({*_OURS, *_ALIASES, *registered}))


def is_known(name: str) -> bool:
    """Return whether ``make_policy`` takes a name; cheap for ours."""
    return name in _OURS or name in _ALIASES or name in known()


def make_policy(choice: str | Policy, **parameters: Any) -> Policy:
    """Return a policy by name, or the instance that was given, with these parameters.

    >>> make_policy("pack", target_wait_s=1.0)
    Pack(target_wait_s=1.0, stay_open_s=5.0)
    >>> make_policy("priority", place="round-robin")
    Priority(place_by=RoundRobin(), ageing=0.1)

    Raises:
        PlanError: No policy of that name, or it takes no such parameter.
    """
    if "place" in parameters:
        parameters["place_by"] = make_policy(parameters.pop("place"))
    if isinstance(choice, Policy):
        make: Callable[..., Policy] = partial(_changed, choice)
        signature = inspect.signature(type(choice))
    else:
        make = _class(choice)
        signature = inspect.signature(make)
    try:
        policy = make(**parameters)
    except TypeError as error:
        raise PlanError(
            f"policy {choice!r} does not take {listed(parameters)} ({error}); its parameters are "
            f"{signature}"
        ) from error
    if not isinstance(getattr(policy, "name", None), str):
        raise PlanError(f"policy {policy!r} has no name; give its class one: name = 'my-policy'")
    return policy


def _changed(policy: Policy, **parameters: Any) -> Policy:
    return replace(policy, **parameters) if parameters else policy  # type: ignore[type-var]


def _class(name: str) -> type[Policy]:
    name = _ALIASES.get(name, name)
    if name in _OURS:
        return _OURS[name]
    for point in entry_points(group=ENTRY_POINTS, name=name):
        loaded = point.load()
        if isinstance(loaded, type) and issubclass(loaded, Policy):
            return loaded
        raise PlanError(
            f"entry point {name!r} of {ENTRY_POINTS!r} is {loaded!r}, no subclass of Policy"
        )
    raise PlanError(
        f"unknown policy {name!r}; known are {listed(known())}{did_you_mean(name, known())}"
    )
