"""What the plugin's helpers may ask of it."""

from __future__ import annotations

from typing import Protocol

from distributed.scheduler import Scheduler

from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.scheduling.statistics import Notice


class Host(Protocol):
    """A dispatcher at home on a scheduler."""

    scheduler: Scheduler
    dispatcher: Dispatcher
    settings: Settings

    @property
    def is_registered(self) -> bool:
        """Whether Dask tells it what happens."""
        ...

    @property
    def is_broken(self) -> bool:
        """Whether nothing is decided any more, because an event was not understood."""
        ...

    def kick(self) -> None:
        """Decide before the event loop turns again."""
        ...

    def publish(self, notice: Notice) -> None:
        """Tell people."""
        ...

    def rebuild(self) -> None:
        """Take every count anew from what Dask says."""
        ...

    def break_off(self, error: Exception) -> None:
        """Fail what waits, since nothing will be decided any more."""
        ...

    def stop(self) -> None:
        """Decide nothing any more; tasks that are held stay so."""
        ...

    def leave(self) -> None:
        """Stop for good; unless another plugin took over, Dask places what waits."""
        ...

    async def detach(self) -> None:
        """Leave stock Dask behind."""
        ...
