"""Faults that strike before a request is served: statuses, resets, silence, and worse."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any

from sage_dask.cluster.timed_server.delivery import forever
from sage_dask.cluster.timed_server.faults import Fault, Incoming, marked_fault
from sage_dask.cluster.timed_server.refusal import RefusalError
from sage_dask.cluster.timed_server.world import World
from sage_dask.errors import PlanError
from sage_dask.extras import require


class Strikes:
    """Finds the fault of a request, and has it happen.

    Args:
        world: The server that it happens to.
    """

    def __init__(self, world: World) -> None:
        self._web = require("aiohttp.web", extra="http", needed_by="TimedServer")
        self._world = world

    def fault(self, name: str, number: int, attempt: int, content: bytes) -> Fault | None:
        """Return what is to go wrong with a request; a marker goes before any rule.

        Raises:
            RefusalError: The marker names no fault.
        """
        try:
            marked = marked_fault(content)
        except PlanError as error:
            raise RefusalError(400, str(error)) from error
        if marked and (marked.tries is None or attempt <= marked.tries):
            return marked
        return self._world.script.choose(Incoming(name, number, attempt, self._world.elapsed_s))

    async def strike(self, fault: Fault, request: Any) -> Any:
        """Have a fault happen that needs no answer to spoil; None to go on with the request."""
        if fault.status is not None:
            return self._refusal(fault.status, fault.argument)
        match fault.kind:
            case "refuse":
                return self._reset(request)
            case "hang":
                await forever()
            case "slow":
                self._world.driver.slow(*fault.numbers)
            case "down":
                self._world.go_down(fault.numbers[0])
                return self._reset(request)
            case "die":
                self._world.die()
                return self._reset(request)
        return None

    def _reset(self, request: Any) -> Any:
        """Cut the connection; what is returned reaches nobody."""
        request.transport.abort()
        return self._web.Response()

    def _refusal(self, status: int, retry_after: str) -> Any:
        body = RefusalError(status, "planted fault", "PlantedFault").body
        headers = {"Retry-After": _retry_after(retry_after)} if retry_after else {}
        return self._web.json_response(body, status=status, headers=headers)


def _retry_after(wanted: str) -> str:
    """Return the header's text: ``date+3`` is a date in three seconds, all else is as it is."""
    kind, _, seconds = wanted.partition("+")
    if kind == "date" and seconds.isdigit():
        return formatdate(time.time() + int(seconds), usegmt=True)
    return wanted
