"""What people ask for at the controls: done if they may, and answered in words.

Each request is checked against a snapshot of that moment.  What the browser was
shown, or sends without having been shown it, decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from sage_dask.dashboard.board import JobView
from sage_dask.dashboard.snapshot import Actions, Snapshot
from sage_dask.errors import SageError

# The second press of one double click is not a second thought.
_SOONEST_S = 0.5
_LATEST_S = 10.0


class Answer(NamedTuple):
    """What became of a request."""

    words: str
    kind: str
    """``"good"``, ``"warn"`` (asked back) or ``"bad"`` (not done)."""


class RefusedError(SageError):
    """The request can not be carried out; the message says why."""


class Steering:
    """Carries out requests, or says why not.

    Args:
        look: Returns the cluster as it is now.
        actions: What may be done to it.
    """

    def __init__(self, look: Callable[[], Snapshot], actions: Callable[[], Actions]) -> None:
        self._look = look
        self._actions = actions
        self._asked: tuple[str, float] | None = None
        """Job whose end was asked for once, and when."""

    def pause(self, job: str) -> Answer:
        """Have a job start nothing."""
        return self._answer(lambda: self._pause(job))

    def resume(self, job: str) -> Answer:
        """Have a job go on."""
        return self._answer(lambda: self._resume(job))

    def cancel(self, job: str) -> Answer:
        """End a job, if this is the second time that it is asked for within ten seconds."""
        return self._answer(lambda: self._cancel(job))

    def set_policy(self, policy: str) -> Answer:
        """Have another policy decide."""
        return self._answer(lambda: self._set_policy(policy))

    def set_gate(self, name: str, limit: str) -> Answer:
        """Set a limit.

        Args:
            name: Of a gate, or a model server's address.
            limit: As it was typed; nothing for no limit, or for one that is found.
        """
        return self._answer(lambda: self._set_gate(name, limit))

    def awaits_confirmation(self, job: str, now_s: float) -> bool:
        """Return whether a second request to cancel a job would end it."""
        return (
            self._asked is not None and self._asked[0] == job and self._waited(now_s) <= _LATEST_S
        )

    def _answer(self, act: Callable[[], Answer]) -> Answer:
        try:
            if not self._look().may_control:
                raise RefusedError("this dashboard may look and not act")
            return act()
        except Exception as error:
            # Whatever went wrong is told to whoever asked, and must not end the page.
            return Answer(f"Not done: {error}", "bad")

    def _pause(self, name: str) -> Answer:
        job = self._going(name)
        self._actions().pause(job.name)
        return Answer(f"{job.name} starts nothing more until it is resumed.", "good")

    def _resume(self, name: str) -> Answer:
        job = self._going(name)
        self._actions().resume(job.name)
        return Answer(f"{job.name} goes on.", "good")

    def _cancel(self, name: str) -> Answer:
        job, now_s = self._going(name), self._look().now_s
        if not self.awaits_confirmation(job.name, now_s):
            self._asked = job.name, now_s
            return Answer(
                f"Press again within {_LATEST_S:.0f} s to end {job.name}; what is done is kept.",
                "warn",
            )
        if self._waited(now_s) < _SOONEST_S:
            return Answer(f"Press again to end {job.name}, not quite so fast.", "warn")
        self._asked = None
        self._actions().cancel(job.name)
        return Answer(f"{job.name} is being ended.", "good")

    def _set_policy(self, policy: str) -> Answer:
        self._actions().set_policy(policy)
        return Answer(f"Policy {policy} decides from now on.", "good")

    def _set_gate(self, name: str, typed: str) -> Answer:
        limit = _limit(typed)
        self._actions().set_gate(name, limit)
        said = "found anew, or none" if limit is None else f"{limit:g}"
        return Answer(f"The limit of {name} is {said}.", "good")

    def _going(self, name: str) -> JobView:
        job = next((job for job in self._look().jobs if job.name == name), None)
        if job is None:
            raise RefusedError(f"there is no job {name!r} any more")
        if job.is_over:
            raise RefusedError(f"job {name!r} has ended: {job.state}")
        return job

    def _waited(self, now_s: float) -> float:
        return math.inf if self._asked is None else now_s - self._asked[1]


def _limit(typed: str) -> float | None:
    """Return the limit that was typed."""
    if not typed.strip():
        return None
    try:
        limit = float(typed)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise RefusedError(
            f"a limit of {typed!r} is no number; give one such as 16, or nothing for no limit"
        )
    return limit
