"""A timed server within this process, on a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Self, TypeVar

from sage_dask.cluster.timed_server.listener import Listener, hold_port
from sage_dask.cluster.timed_server.options import TimedOptions

T = TypeVar("T")


class TimedServer:
    """A model server that imitates vLLM's timing; its words are noise.

    Use it in ``with``.  It speaks vLLM's API and tells vLLM's metrics, batches as
    its options say, and fails as requests or scripts order it to.

    Args:
        options: How it behaves; or name the fields one by one.
        host: Address to listen on.
        port: 0 for any that is free.
        die: What the fault of that name does; None: it is an outage without end.
        fields: As of :class:`.TimedOptions`, such as ``seats=64, latency_s=0.4``.

    Raises:
        PlanError: Options that no server could have, or a script that is none.
        MissingDependencyError: aiohttp is not installed.
    """

    def __init__(
        self,
        options: TimedOptions | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        die: Callable[[], None] | None = None,
        **fields: Any,
    ) -> None:
        self.options = options or TimedOptions(**fields)
        self._held = hold_port(host, port)
        self._host = host
        self._die = die
        self.port: int = self._held.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="timed-server", daemon=True
        )
        self._listener: Listener | None = None

    @property
    def url(self) -> str:
        """Address of the server, without a path."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    @property
    def endpoint(self) -> str:
        """Base URL of its API, for ``Generate(endpoint=...)``."""
        return f"{self.url}/v1"

    @property
    def metrics(self) -> str:
        """Address of its metrics."""
        return f"{self.url}/metrics"

    def start(self) -> Self:
        """Begin to answer; done by ``with``."""
        self._thread.start()
        try:
            self._listener = self._run(self._start())
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Reset all connections, and stop; done by ``with``."""
        if self._thread.is_alive():
            if self._listener is not None:
                self._run(self._listener.stop())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        if not self._loop.is_closed():
            self._loop.close()
        self._held.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def statistics(self) -> Mapping[str, Any]:
        """Return how full it was since the last reset, and what it was asked."""
        return self._call(lambda listener: listener.world.statistics())

    def ledger(self) -> Mapping[str, Mapping[str, int]]:
        """Return how often each request was received and answered, by its id."""
        return self._call(lambda listener: listener.world.ledger.entries())

    def reset(self) -> None:
        """Start all counts anew."""
        self._call(lambda listener: listener.world.reset())

    def brown_out(self, factor: float, seconds: float) -> None:
        """Have everything take ``factor`` times as long for a while from now on."""
        self._call(lambda listener: listener.world.driver.slow(factor, seconds))

    def outage(self, seconds: float) -> None:
        """Be gone for a while from now on; infinite until ``recover``."""
        self._run(self._running().go_down(seconds))

    def recover(self) -> None:
        """End an outage, a brown-out, or the fault ``die``."""
        self._run(self._running().come_back())
        self.brown_out(1, 0)

    async def _start(self) -> Listener:
        listener = Listener(self.options, self._host, self.port, die=self._die)
        await listener.start()
        return listener

    def _running(self) -> Listener:
        if self._listener is None:
            raise RuntimeError("TimedServer: it does not run; use it in 'with'")
        return self._listener

    def _call(self, function: Callable[[Listener], T]) -> T:
        """Call a function on the loop's thread."""
        listener = self._running()

        async def call() -> T:
            return function(listener)

        return self._run(call())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __repr__(self) -> str:
        state = "running" if self._thread.is_alive() else "stopped"
        return f"<TimedServer {self.url} {state}, {self.options.seats} seats>"
