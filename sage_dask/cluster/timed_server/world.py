"""What a timed server is made of, in one place: its engine, its books, and its faults.

Made and used on the server's event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from sage_dask.cluster.timed_server.driver import EngineDriver
from sage_dask.cluster.timed_server.engine import ContinuousBatching
from sage_dask.cluster.timed_server.faults import FaultScript, load_script
from sage_dask.cluster.timed_server.fixed import FixedLatency
from sage_dask.cluster.timed_server.ledger import Ledger
from sage_dask.cluster.timed_server.metrics import ServerMetrics
from sage_dask.cluster.timed_server.options import TimedOptions


class World:
    """The state of a timed server.

    Args:
        options: How it behaves.
        go_down: Has it be gone for so many seconds.
        die: Has it be gone for good.
    """

    def __init__(
        self,
        options: TimedOptions,
        *,
        go_down: Callable[[float], None],
        die: Callable[[], None],
    ) -> None:
        self.options = options
        engine = FixedLatency if options.latency_s is not None else ContinuousBatching
        self.driver = EngineDriver(engine(options), max_queued=options.max_queued)
        self.metrics = ServerMetrics(options.model)
        self.ledger = Ledger()
        self.script: FaultScript = load_script(options.script)
        self.go_down = go_down
        self.die = die
        self.started = int(time.time())
        self._loop = asyncio.get_running_loop()
        self._since_s = self._loop.time()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start or the last reset."""
        return self._loop.time() - self._since_s

    def statistics(self) -> dict[str, Any]:
        """Return how full the server was since the last reset, and what it was asked."""
        self.driver.advance()
        load = self.driver.meter.load(self._loop.time())
        return {
            **asdict(load),
            "mean_running": load.mean_running,
            "mean_waiting": load.mean_waiting,
            "utilisation": load.mean_running / self.options.seats,
            **asdict(self.driver.engine.statistics()),
            "received": self.ledger.received,
            "answered": self.ledger.answered,
        }

    def reset(self) -> None:
        """Count from here: ledger, numbers of requests, load, and the time that scripts go by."""
        self.ledger.reset()
        self._since_s = self._loop.time()
        self.driver.meter.reset(self._since_s)
