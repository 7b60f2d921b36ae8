"""Two runs side by side: what differs about them, and what got better or worse.

One run each tells little: where the figures are close, nothing is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sage_dask.breakdown import Breakdown
from sage_dask.metrics import without_nan
from sage_dask.report.figures import Figures
from sage_dask.report.measures import Measure, measures
from sage_dask.report.rows import breakdown_rows


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of both runs."""

    measure: Measure
    """The first run's; name, unit and digits hold for both."""
    against: float
    """The other run's value; not a number where it was not measured."""

    @property
    def difference(self) -> float:
        """The first run's value less the other's; not a number where one was not measured."""
        return self.measure.value - self.against

    @property
    def ratio(self) -> float:
        """The first run's value over the other's; not a number where there is none."""
        return self.measure.value / self.against if self.against else math.nan


@dataclass(frozen=True, slots=True)
class PartPair:
    """One part of the latency in both runs: seconds per record, not a number where unknown."""

    name: str
    seconds: float
    against_s: float
    of_stage: str = ""
    """The stage whose part it is; empty for those that add up to the latency."""

    @property
    def difference_s(self) -> float:
        """The first run's seconds less the other's."""
        return self.seconds - self.against_s


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run against another."""

    name: str
    """What the first run is called, such as its folder."""
    figures: Figures
    against_name: str
    against: Figures

    @property
    def pairs(self) -> list[Pair]:
        """The figures that either has."""
        ours = {each.name: each for each in measures(self.figures)}
        theirs = {each.name: each for each in measures(self.against)}
        pairs = []
        for name, other in {**ours, **theirs}.items():
            measure = ours.get(name) or replace(other, value=math.nan)
            pairs.append(Pair(measure, theirs[name].value if name in theirs else math.nan))
        return pairs

    @property
    def parts(self) -> list[PartPair]:
        """The parts of both latencies, those of stages behind their stage.

        A part that one run has and the other has not took no time there, unless there nothing
        was measured.
        """
        ours, theirs = _seconds(self.figures.breakdown), _seconds(self.against.breakdown)
        missing_s = 0.0 if self.figures.breakdown.num_records else math.nan
        missing_there_s = 0.0 if self.against.breakdown.num_records else math.nan
        return [
            PartPair(name, ours.get(key, missing_s), theirs.get(key, missing_there_s), of_stage)
            for key in _in_order(list(ours), list(theirs))
            for of_stage, name in [key]
        ]

    @property
    def differences(self) -> list[tuple[str, str, str]]:
        """What differs about the runs themselves: what it is, here, and there."""
        ours, theirs = dict(_conditions(self.figures)), dict(_conditions(self.against))
        return [
            (what, ours.get(what, ""), theirs.get(what, ""))
            for what in {**ours, **theirs}
            if ours.get(what, "") != theirs.get(what, "")
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as plain values, for JSON; what was not measured is None.

        Keys: ``run`` and ``against`` with ``name`` and the whole ``report`` of each, ``figures``
        and ``parts`` (each with both values, ``difference`` and ``ratio``), ``differences``.
        """
        plain = {
            "run": {"name": self.name, "report": self.figures.as_dict()},
            "against": {"name": self.against_name, "report": self.against.as_dict()},
            "figures": [_plain(pair) for pair in self.pairs],
            "parts": [_plain_part(part) for part in self.parts],
            "differences": [
                {"what": what, "run": here, "against": there}
                for what, here, there in self.differences
            ],
        }
        return dict(without_nan(plain))


def _seconds(breakdown: Breakdown) -> Mapping[tuple[str, str], float]:
    """Return seconds by stage (empty for parts of the whole) and name; all parts, however small."""
    seconds: dict[tuple[str, str], float] = {}
    stage = ""
    for row in breakdown_rows(breakdown, least_share=0.0):
        stage = stage if row.is_sub_part else row.name
        seconds[stage if row.is_sub_part else "", row.name] = row.seconds
    return seconds


def _in_order(
    ours: Sequence[tuple[str, str]], theirs: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Return the keys of both, each that only the other has behind what it follows there."""
    keys = list(ours)
    at = 0
    for key in theirs:
        if key in keys:
            at = keys.index(key) + 1
        else:
            keys.insert(at, key)
            at += 1
    return keys


def _conditions(figures: Figures) -> Iterator[tuple[str, str]]:
    yield "pipeline", figures.pipeline
    yield "stages", ", ".join(figures.stages)
    yield "outcome", figures.outcome
    yield "records read", f"{figures.num_read:,}"
    yield "ran", figures.runner
    yield "nodes", f"{len(figures.nodes)}"
    yield "threads", f"{figures.num_threads}"
    yield "policy", figures.policy
    yield "starts", f"{figures.num_starts}"
    yield "command", figures.command
    yield from figures.versions.items()


def _plain(pair: Pair) -> dict[str, Any]:
    return {
        "name": pair.measure.name,
        "unit": pair.measure.unit,
        "better": pair.measure.better.value,
        "run": pair.measure.value,
        "against": pair.against,
        "difference": pair.difference,
        "ratio": pair.ratio,
    }


def _plain_part(part: PartPair) -> dict[str, Any]:
    return {
        "name": part.name,
        "of_stage": part.of_stage,
        "run_s": part.seconds,
        "against_s": part.against_s,
        "difference_s": part.difference_s,
        "ratio": part.seconds / part.against_s if part.against_s else math.nan,
    }
