"""What a worker process tells whoever governs its requests, some twenty times a second."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Outcomes:
    """How the requests to one endpoint went since the last report."""

    ok: int = 0
    busy: int = 0
    """Turned away: 429 or 503."""
    failed: int = 0
    """Connections refused or cut, deadlines, 500 and the like."""
    latency_s: float = 0.0
    """Of those that went well, added up."""


@dataclass(frozen=True, slots=True)
class RequestReport:
    """The requests of one worker process at one moment."""

    outstanding: Mapping[Hashable, int] = field(default_factory=dict)
    """By task: requests that wait here or are under way; 0 once for a task that is done."""
    in_flight: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By endpoint and job: requests under way; those that are not named have none."""
    outcomes: Mapping[str, Outcomes] = field(default_factory=dict)
    """By endpoint, since the last report."""
    down_s: Mapping[str, float] = field(default_factory=dict)
    """By endpoint: for how long its circuit breaker has been open, where it is."""
    version: int = 0
    """Of the allotment that this worker goes by; 0 before the first."""
