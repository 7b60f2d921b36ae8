"""A worker's end of the line to the dispatcher: its slots for requests to model servers.

The slots live on the process's loop for work that waits, messages on Dask's own.
Reports are gathered for a moment, so that a hundred answers make one message.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from weakref import WeakKeyDictionary

from distributed import Worker
from distributed.protocol import pickle
from distributed.worker_state_machine import SecedeEvent

from sage_dask import aio
from sage_dask.endpoint.slots import RequestSlots
from sage_dask.scheduling.on_dask.wire import ALLOT, HANDLER, REPORTS

# Long enough for the answers of a busy moment, short beside any model's answer.
_GATHER_S = 0.1

# Slots that have just become idle are told of sooner, as other workers have requests for them.
_IDLE_GATHER_S = 0.01

# While there are requests and nothing changes, a report says that the worker is not stuck.
_ALIVE_S = 2.0

# Reports without an answer before it is asked whether anybody is there: two seconds at the least,
# where a dispatcher answers in milliseconds.
_MOST_UNHEARD = 1

_lock = threading.Lock()
_of_worker: WeakKeyDictionary[Worker, WorkerSlots] = WeakKeyDictionary()


class WorkerSlots:
    """The slots of one worker, governed by the dispatcher on its scheduler.

    Args:
        worker: Is told what was allotted, and says how its requests are doing.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop = aio.background_loop()
        self._due: asyncio.TimerHandle | None = None
        self._alive: asyncio.TimerHandle | None = None
        self._had_idle = True
        self._is_heard = False
        """Whether a dispatcher has ever said anything."""
        self._num_reports = 0
        self.slots = RequestSlots()
        # Nothing may start before the dispatcher has said so.
        self.slots.allot({}, 0)
        self.slots.on_change = self._gather
        worker.stream_handlers[ALLOT] = self._allotted
        # The first report tells the scheduler that messages will be understood here.
        self._loop.call_soon_threadsafe(self._report)

    def _allotted(
        self, slots: Mapping[str, Mapping[str, int]] | None, version: int, share: float
    ) -> None:
        """Take what the dispatcher allotted, None for its farewell; on Dask's loop."""
        self._is_heard = True
        self.slots.share = share
        if slots is None:
            self._loop.call_soon_threadsafe(self.slots.free)
        else:
            self._loop.call_soon_threadsafe(self.slots.allot, slots, version)

    def _gather(self) -> None:
        """Report in a moment; once soon where slots have become idle since the last report."""
        if not self._had_idle and self.slots.has_idle:
            self._had_idle = True
            if self._due is not None:
                self._due.cancel()
            self._due = self._loop.call_later(_IDLE_GATHER_S, self._report)
        elif self._due is None:
            self._due = self._loop.call_later(_GATHER_S, self._report)

    def _report(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._had_idle = self.slots.has_idle
        report = self.slots.report()
        told = pickle.dumps(report)
        self._worker.log_event(REPORTS, {"worker": self._worker.address, "report": told})
        if self._alive is not None:
            self._alive.cancel()
            self._alive = None
        if any(report.outstanding.values()):
            self._alive = self._loop.call_later(_ALIVE_S, self._report)
            self._num_reports += 1
            if not self._is_heard and self._num_reports > _MOST_UNHEARD:
                self._worker.loop.add_callback(self._look_for_dispatcher)

    async def _look_for_dispatcher(self) -> None:
        """Have requests go as they like if the dispatcher left before it ever heard of us."""
        try:
            answer = await getattr(self._worker.scheduler, HANDLER)(
                question="ping", arguments=pickle.dumps(())
            )
        except OSError:
            # The scheduler is gone, or comes back: the next report asks again.
            return
        if answer is None and not self._is_heard:
            self._loop.call_soon_threadsafe(self.slots.free)


def slots_of(worker: Worker) -> RequestSlots:
    """Return the slots of a worker, made with the first task that needs them."""
    with _lock:
        own = _of_worker.get(worker)
        if own is None:
            own = _of_worker[worker] = WorkerSlots(worker)
        return own.slots


def secede(worker: Worker, key: object) -> None:
    """Let go of the thread that Dask counts for a coroutine task; it only waits.

    Dask's own ``secede`` is for tasks in threads; this is what it does, without the thread.
    """
    event = SecedeEvent(key=key, compute_duration=0.0, stimulus_id=f"sage-secede-{time.time()}")
    worker.handle_stimulus(event)
