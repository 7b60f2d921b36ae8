"""Decisions carried out on Dask: once per turn of the event loop, for all events in it."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar, cast

from distributed.protocol import pickle

from sage_dask.errors import RunError, SageError
from sage_dask.scheduling.on_dask.held import Held, hold
from sage_dask.scheduling.on_dask.keeping import Keeping
from sage_dask.scheduling.on_dask.traffic import Traffic
from sage_dask.scheduling.statistics import Start

# Below Dask's own logger: shown where a scheduler's log is, silent where Dask's is, as on local
# nodes, whose driver tells it already.
logger = logging.getLogger("distributed.sage_dask")

_Hook = TypeVar("_Hook", bound=Callable[..., None])


def loud(hook: _Hook) -> _Hook:
    """Have a hook that breaks end the runs: Dask would log a line, and they would wait for ever."""

    @wraps(hook)
    def guarded(self: Placing, *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except Exception as error:
            self.break_off(error)

    return cast(_Hook, guarded)


class Placing(Keeping):
    """Starts tasks where the dispatcher says, and fails them where it can not say any more."""

    name: str
    traffic: Traffic

    def _prepare(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wake: asyncio.TimerHandle | None = None
        self._is_stopped = False

    def _begin_anew(self) -> None:
        """Have charge of no task, and nothing against deciding."""
        super()._begin_anew()
        self._is_kicked = False
        self._broken: SageError | None = None

    @property
    def is_registered(self) -> bool:
        """Whether Dask tells this plugin what happens; unregistering one calls nothing."""
        return self.scheduler.plugins.get(self.name) is self

    @property
    def is_broken(self) -> bool:
        """Whether nothing is decided any more, because an event was not understood."""
        return self._broken is not None

    def kick(self) -> None:
        """Decide before the event loop turns again."""
        if not self._is_kicked:
            self._is_kicked = True
            self._loop.call_soon(self._dispatch)

    def break_off(self, error: Exception) -> None:
        """Fail what waits, now and from now on, since nothing will be decided any more."""
        if self._broken is not None:
            # The watch will try again; at once it might be without end.
            return
        where = "".join(traceback.format_exception(error))
        self._broken = RunError(
            f"the dispatcher broke ({type(error).__name__}: {error}); this is a defect of "
            f"sage_dask, please report it\n\n{where}"
        )
        logger.critical("%s", self._broken)
        self.kick()

    @loud
    def _dispatch(self) -> None:
        self._is_kicked = False
        if self._is_stopped or not self.is_registered:
            return
        if self._broken is None:
            now_s = time.monotonic()
            self._start(self.dispatcher.dispatch(now_s), now_s)
            self.traffic.allot(now_s)
            self._set_wake(now_s)
        failure = self._broken or self.dispatcher.failure
        if failure is not None:
            self._fail_waiting(failure)

    def _start(self, starts: Sequence[Start], now_s: float) -> None:
        """Carry out decisions; one that has become impossible is taken back."""
        for start in starts:
            self._tasks[start.key].place(start, now_s, time.monotonic())
        # Dask takes recommendations from the end.
        recommended = {start.key: "processing" for start in reversed(starts)}
        self.scheduler.transitions(recommended, stimulus("dispatch"))
        for start in starts:
            task = self._tasks.get(start.key)
            if task is not None and task.state.state == "no-worker":
                self._take_back(task, start.worker, now_s)

    def _take_back(self, task: Held, worker: str, now_s: float) -> None:
        """Hold a task again that its worker could not be given: paused, leaving, or with less now.

        The worker gets nothing until the watch has looked at it, or this might go on without end.
        """
        hold(task.state)
        self.dispatcher.worker_running(worker, False)
        self.dispatcher.task_ended(task.state.key, now_s, how="not started: its worker takes none")
        self.dispatcher.task_ready(task.view(self.scheduler, now_s), now_s)
        self.kick()

    def _set_wake(self, now_s: float) -> None:
        """Decide again when the dispatcher wants to, if nothing happens before."""
        if self._wake is not None:
            self._wake.cancel()
        wake_s = self.dispatcher.next_wake_s
        # The dispatcher compares times, so do not come a hair early.
        self._wake = (
            None
            if wake_s is None
            else self._loop.call_later(max(0.0, wake_s - now_s) + 0.001, self.kick)
        )

    def _fail_waiting(self, error: SageError) -> None:
        """Fail tasks that nobody is going to place, so that those who wait for them know."""
        stimulus_id, exception = stimulus("fail"), pickle.dumps(error)
        recommended: dict[Any, str] = {}
        for key in self._keys_waiting():
            recommended.update(
                self.scheduler.transition(
                    key,
                    "erred",
                    exception=exception,
                    exception_text=str(error),
                    cause=key,
                    stimulus_id=stimulus_id,
                )
            )
        self.scheduler.transitions(recommended, stimulus_id)


def stimulus(what: str) -> str:
    """Return an id for what we do to Dask's tasks, as its logs show it."""
    return f"sage-{what}-{time.time()}"
