"""The monitor on a scheduler: hears drivers, and answers whoever looks.

It follows no transition and holds nothing back.  Observing must not end a run: a
hook that breaks is counted, told once, and that is all.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.protocol import pickle
from distributed.scheduler import Scheduler

from sage_dask.dashboard.actions import SchedulerActions
from sage_dask.dashboard.board import RUNNING, Board
from sage_dask.dashboard.loads import node_loads
from sage_dask.dashboard.prometheus import register
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.dashboard.wire import NEWS, SNAPSHOT
from sage_dask.scheduling.on_dask.configured import may_control
from sage_dask.scheduling.on_dask.keeping import TOPIC
from sage_dask.scheduling.on_dask.remote import predecessor_of
from sage_dask.scheduling.statistics import Notice
from sage_dask.standing import Progress

# Below Dask's own logger, as the dispatcher's is.
logger = logging.getLogger("distributed.sage_dask")

# All who look within this time see the same.
SHARED_S = 0.5

_MOST_NOTICES = 50


class MonitorPlugin(SchedulerPlugin):
    """Shows the jobs of a scheduler.

    Registered again, it stays as it is (Dask's ``idempotent``).

    Args:
        clock: Seconds, by the clock that the dispatcher on the scheduler goes by.
    """

    name = "sage-dask-monitor"
    idempotent = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    async def start(self, scheduler: Scheduler) -> None:
        """Begin to listen, and open what people look at."""
        self.scheduler = scheduler
        self.board = Board()
        self.actions = SchedulerActions(scheduler, self.board)
        self.num_errors = 0
        """How often something here broke."""
        self._notices: deque[tuple[float, Notice]] = deque(maxlen=_MOST_NOTICES)
        self._latest: Snapshot | None = None
        scheduler.handlers[NEWS] = self.hear
        scheduler.handlers[SNAPSHOT] = self.tell
        with self._harmless():
            _function("sage_dask.dashboard.mount", "mount")(scheduler, self)
        with self._harmless():
            register(self)

    def snapshot(self) -> Snapshot:
        """Return what is to be seen, half a second old at most: all who look share one."""
        now_s = self._clock()
        if self._latest is None or now_s - self._latest.now_s >= SHARED_S:
            self._latest = self._look(now_s)
        return self._latest

    # What drivers and clients call

    def hear(self, job: str, client: str, news: bytes) -> None:
        """Take the news of a job from its driver."""
        with self._harmless():
            progress: Progress = pickle.loads(news)
            self.board.hear(job, client, progress, self._clock())
            if progress.report is not None and progress.report.outcome != RUNNING:
                self._forget_pause(job)

    def tell(self, num_points: int) -> bytes:
        """Return a snapshot, pickled, with so many of each job's latest points.

        All points of eight jobs take a quarter of a megabyte, and 18 ms of the scheduler.
        """
        snapshot = self.snapshot()
        jobs = [
            replace(view, points=view.points[max(0, len(view.points) - num_points) :])
            for view in snapshot.jobs
        ]
        pickled: bytes = pickle.dumps(replace(snapshot, jobs=jobs))
        return pickled

    # What Dask tells

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Note that a client has left; jobs that it drove and did not end are lost."""
        with self._harmless():
            for job in self.board.client_left(client):
                self._forget_pause(job)

    def log_event(self, topic: str, msg: Any) -> None:
        """Keep what the dispatcher says for people; other events are not ours."""
        if topic == TOPIC:
            with self._harmless():
                said: Mapping[str, str] = msg
                self._note(Notice(said["kind"], said["text"]))

    def _look(self, now_s: float) -> Snapshot:
        host = predecessor_of(self.scheduler)
        scheduling = None if host is None else host.dispatcher.statistics(now_s)
        return Snapshot(
            now_s=now_s,
            jobs=self.board.jobs(now_s, () if scheduling is None else scheduling.paused),
            scheduling=scheduling,
            nodes=node_loads(self.scheduler),
            notices=tuple(self._notices),
            may_control=may_control(),
            num_observer_errors=self.num_errors,
        )

    def _forget_pause(self, job: str) -> None:
        host = predecessor_of(self.scheduler)
        if host is not None and job in host.dispatcher.jobs.paused:
            host.settings.paused.discard(job)
            host.dispatcher.set_paused(job, False)

    def _note(self, notice: Notice) -> None:
        self._notices.append((self._clock(), notice))

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        """Count what breaks, and tell the first time."""
        try:
            yield
        except Exception as error:
            self.num_errors += 1
            if self.num_errors > 1:
                return
            told = (
                f"the monitor broke ({type(error).__name__}: {error}); runs go on, and what is "
                "shown of them may be wrong; this is a defect of sage_dask, please report it"
            )
            logger.critical(told, exc_info=True)
            self._note(Notice("monitor", told))


def _function(module: str, name: str) -> Callable[..., object]:
    """Return a function that shows what a monitor knows; one that is not there shows nothing."""
    try:
        found: Callable[..., object] = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return _nothing
    return found


def _nothing(*shown: object) -> None:
    """Show nothing."""
