"""For whom a request is made: set by whoever runs a stage, read by whoever sends.

A context variable, so that it reaches every asyncio task that an operator starts
without passing through the operator's own signatures.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.slots import RequestSlots
from sage_dask.endpoint.usage import Usage


@dataclass(slots=True)
class RequestContext:
    """One stage at work on one batch."""

    slots: RequestSlots = field(default_factory=RequestSlots)
    """Where requests of this worker wait for their turn; by default as many as asked at once."""
    job: str = "local"
    """Name of the job, ``"pipeline/id"``; slots are shared fairly between jobs."""
    task: Hashable = None
    """Key of the task that the batch is worked on in."""
    usage: Usage = field(default_factory=Usage)
    """What the stage's requests cost so far."""
    calls: CallTimes = field(default_factory=CallTimes)
    """Where the time of those of the stage's calls went that have ended, and of others so far."""


_current: ContextVar[RequestContext | None] = ContextVar("sage_dask_request_context", default=None)


def current() -> RequestContext:
    """Return for whom the caller works; outside any runner, for itself and without limits."""
    context = _current.get()
    if context is None:
        context = RequestContext()
        _current.set(context)
    return context


@contextmanager
def working(context: RequestContext) -> Iterator[RequestContext]:
    """Have all requests that are made meanwhile, also in asyncio tasks, be made for ``context``."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
