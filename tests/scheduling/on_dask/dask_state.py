"""Dask's own scheduler, driven step by step: no machine, no socket, no waiting.

``DaskState`` owns a real ``Scheduler`` that was never started.  Machines,
their connections and what they report are fakes; every decision, transition
and plugin hook is Dask's own code, in Dask's own order, with its consistency
checks on.  Methods return when the event loop has caught up, so callbacks
that a plugin asked for have run, and they raise what a plugin's hook raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Self

import dask
import dask.order
from dask._task_spec import Task, TaskRef
from distributed.batched import BatchedSend
from distributed.core import error_message
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.metrics import time
from distributed.scheduler import ClientState, Scheduler, TaskState, WorkerState

# Enough for callbacks that ask for callbacks; a plugin that asks without end does not hang a test.
_TURNS = 10

# What a worker reports with every heartbeat, as far as the scheduler reads it.
IDLE_METRICS: Mapping[str, Any] = {
    "bandwidth": {"total": 100_000_000, "workers": {}, "types": {}},
    "digests_total_since_heartbeat": {},
    "managed_bytes": 0,
    "spilled_bytes": {"memory": 0, "disk": 0},
    "memory": 0,
    "cpu": 0.0,
}


class _FakeComm:
    """The answering side of a registration: what is written is kept."""

    def __init__(self) -> None:
        self.written: list[Any] = []

    async def write(self, message: Any) -> None:
        """Keep an answer."""
        self.written.append(message)


class _UnstartedScheduler(Scheduler):
    """Dask's scheduler without listeners; streams keep what is sent, since nothing drains them."""

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Open no port."""

    async def handle_worker(self, comm: Any, worker: str) -> None:
        """Return, where Dask would listen to the worker until it leaves, and then remove it."""


class _HookErrors(logging.Handler):
    """Collects the exceptions that Dask and the event loop swallow into their logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.raised: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the exception that a message tells of, or is."""
        error = record.exc_info[1] if record.exc_info else record.msg
        if isinstance(error, BaseException):
            self.raised.append(error)

    def handle_callback(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what a callback raised; the event loop would only log it."""
        self.raised.append(context.get("exception") or RuntimeError(context["message"]))


class DaskState:
    """A Dask scheduler with fake machines, as a context manager.

    Args:
        config: Dask settings for as long as it is open; work stealing is off unless set.
        options: Arguments of Dask's ``Scheduler``, such as ``allowed_failures=0``.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, **options: Any) -> None:
        settings = {"distributed.scheduler.work-stealing": False, **(config or {})}
        self.hook_errors: list[BaseException] = []
        """What hooks raised while ``allow_hook_errors`` was set."""
        self.allow_hook_errors = False
        self._settings = dask.config.set(settings)
        self._runner = asyncio.Runner()
        self._log = _HookErrors()
        self._logger = logging.getLogger("distributed.scheduler")
        self._level = self._logger.level
        self._runner.get_loop().set_exception_handler(self._log.handle_callback)
        self._names: dict[str, str] = {}
        self._num_steps = 0

        async def make() -> Scheduler:
            return _UnstartedScheduler(validate=True, dashboard=False, **options)

        self.scheduler: Scheduler = self._runner.run(make())
        self._logger.addHandler(self._log)
        self._logger.setLevel(logging.INFO)
        self.connect("client")

    # --- machines

    def add_worker(
        self,
        name: str,
        threads: int = 1,
        *,
        resources: Mapping[str, float] | None = None,
        host: str | None = None,
        node: str | None = None,
        memory_limit: int = 0,
        status: str = "running",
    ) -> str:
        """Let a worker register, and return its address.

        Args:
            name: What the worker is called; each worker needs a name of its own.
            host: Numeric address of its machine; a machine of its own by default.
            node: What our clusters send along at registration, as ``extra["node"]``.
            resources: What it supplies, such as ``{"LLM": 4}``.
            memory_limit: In bytes; 0 for none.
            threads: Tasks it runs at a time.
            status: ``"running"`` or ``"paused"``.
        """
        number = len(self._names) + 1
        address = f"tcp://{host or f'10.0.0.{number}'}:{9000 + number}"
        self._names[name] = address
        registration = {
            "address": address,
            "status": status,
            "server_id": f"{name}-{number}",
            "nthreads": threads,
            "name": name,
            "now": time(),
            "resources": dict(resources or {}),
            "memory_limit": memory_limit,
            "metrics": dict(IDLE_METRICS),
            "services": {},
            "local_directory": "",
            "versions": {},
            "nanny": "",
            "extra": {} if node is None else {"node": node},
            "stimulus_id": self._stimulus("add-worker"),
        }
        self._run(self.scheduler.add_worker(_FakeComm(), **registration))
        return address

    def lose_worker(self, name: str, *, expected: bool = False) -> None:
        """Remove a worker as Dask does when its connection breaks; expected if it was retired."""
        self._run(
            self.scheduler.remove_worker(
                self.address(name), stimulus_id=self._stimulus("lost"), expected=expected
            )
        )

    def pause(self, name: str) -> None:
        """Let a worker report that it is short of memory."""
        self._status(name, "paused")

    def resume(self, name: str) -> None:
        """Let a worker report that it runs again."""
        self._status(name, "running")

    def heartbeat(self, name: str, **metrics: Any) -> None:
        """Let a worker report metrics, beside those of an idle one."""
        self.do(
            self.scheduler.heartbeat_worker,
            address=self.address(name),
            metrics={**IDLE_METRICS, **metrics},
        )

    # --- clients and their graphs

    def connect(self, client: str) -> None:
        """Let a client connect."""

        def add() -> None:
            self.scheduler.clients[client] = ClientState(client)
            self.scheduler.client_comms[client] = BatchedSend(interval="2ms")
            for plugin in list(self.scheduler.plugins.values()):
                plugin.add_client(scheduler=self.scheduler, client=client)

        self.do(add)

    def disconnect(self, client: str = "client") -> None:
        """Let a client go, with everything that only it wanted."""
        self.do(self.scheduler.remove_client, client, stimulus_id=self._stimulus("gone"))

    def submit(
        self,
        graph: Mapping[str, Iterable[str]],
        annotations: Mapping[str, Any] | None = None,
        *,
        wanted: Iterable[str] | None = None,
        priority: int = 0,
        client: str = "client",
    ) -> None:
        """Let a client submit a graph.

        Args:
            graph: The inputs of each task by key.
            annotations: What all tasks of the graph carry, as within ``dask.annotate``.
            wanted: Keys whose results the client wants; all by default.
            priority: The client's priority for the whole graph; higher runs first.
            client: Who submits.
        """
        tasks = {key: Task(key, _nothing, *map(TaskRef, inputs)) for key, inputs in graph.items()}
        by_type = {name: dict.fromkeys(tasks, value) for name, value in (annotations or {}).items()}
        self.do(
            self.scheduler._create_taskstate_from_graph,
            start=time(),
            dsk=tasks,
            keys=set(tasks if wanted is None else wanted),
            ordered=dask.order.order(tasks),
            client=client,
            annotations_by_type=by_type,
            global_annotations=None,
            stimulus_id=self._stimulus("update-graph"),
            submitting_task=None,
            span_metadata={"collections": []},
            user_priority=priority,
        )

    def cancel(self, *keys: str, client: str = "client", force: bool = False) -> None:
        """Let a client cancel tasks, and what depends on them."""
        self.do(self.scheduler.stimulus_cancel, keys, client, force, reason="test", msg="")

    def release(self, *keys: str, client: str = "client") -> None:
        """Let a client forget its futures."""
        self.do(self.scheduler.client_releases_keys, keys, client, self._stimulus("release"))

    def retry(self, *keys: str, client: str = "client") -> None:
        """Let a client retry failed tasks."""
        self.do(self.scheduler.stimulus_retry, keys, client)

    def restart(self) -> None:
        """Let a client restart the cluster: tasks are forgotten, workers leave, none comes back."""
        restart = self.scheduler.restart(
            wait_for_workers=False, stimulus_id=self._stimulus("restart")
        )
        self._run(restart)

    # --- what workers report of tasks

    def finish(self, key: str, *, nbytes: int = 8, duration_s: float = 1.0) -> None:
        """Let the worker of a task report its result."""
        now = time()
        self.do(
            self.scheduler.handle_task_finished,
            **self._report(key, "task-finished"),
            nbytes=nbytes,
            type=b"",
            typename="int",
            metadata={},
            thread=0,
            startstops=[{"action": "compute", "start": now - duration_s, "stop": now}],
        )

    def fail(self, key: str, error: Exception | None = None) -> None:
        """Let the worker of a task report an exception."""
        message = error_message(error or ValueError("planted"))
        told = ("exception", "traceback", "exception_text", "traceback_text")
        self.do(
            self.scheduler.handle_task_erred,
            **self._report(key, "task-erred"),
            **{name: message[name] for name in told},
            startstops=[],
            thread=0,
        )

    def secede(self, key: str, *, duration_s: float | None = None) -> None:
        """Let a task leave its worker's threads and go on."""
        report = self._report(key, "secede")
        self.do(self.scheduler.handle_long_running, **report, compute_duration=duration_s)

    def reschedule(self, key: str) -> None:
        """Let a task end with ``Reschedule``."""
        report = self._report(key, "reschedule")
        report.pop("run_id")
        self.do(self.scheduler._reschedule, **report)

    # --- plugins, and whatever else runs on the scheduler

    def register(self, plugin: SchedulerPlugin, *, name: str | None = None) -> None:
        """Register a plugin as ``Client.register_plugin`` does."""
        self._run(
            self.scheduler.register_scheduler_plugin(
                plugin, name=name, idempotent=plugin.idempotent
            )
        )

    def unregister(self, name: str) -> None:
        """Unregister a plugin as ``Client.unregister_scheduler_plugin`` does."""
        self._run(self.scheduler.unregister_scheduler_plugin(name))

    def recommend(self, recommendations: Mapping[str, str]) -> None:
        """Recommend new states, as a plugin does to start what it held."""
        self.do(self.scheduler.transitions, dict(recommendations), self._stimulus("plugin"))

    def do(self, function: Any, *args: Any, **kwargs: Any) -> None:
        """Call a function within the event loop, as Dask calls what handles its messages."""

        async def call() -> None:
            function(*args, **kwargs)

        self._run(call())

    def settle(self) -> None:
        """Let callbacks that wait in the event loop run."""
        self._run(asyncio.sleep(0))

    # --- what is to be seen

    def address(self, name: str) -> str:
        """Return the address of a worker, which may have left."""
        return self._names[name]

    def worker(self, name: str) -> WorkerState:
        """Return Dask's record of a worker."""
        return self.scheduler.workers[self.address(name)]

    def task(self, key: str) -> TaskState:
        """Return Dask's record of a task."""
        return self.scheduler.tasks[key]

    def states(self) -> dict[str, str]:
        """Return the state of every task that Dask knows."""
        return {key: task.state for key, task in self.scheduler.tasks.items()}

    def running_on(self, name: str) -> set[str]:
        """Return the keys that are assigned to a worker."""
        return {task.key for task in self.worker(name).processing}

    def sent(self, name: str, operation: str) -> list[dict[str, Any]]:
        """Return the messages of one kind that a present worker was sent, in order."""
        return _of_kind(self.scheduler.stream_comms[self.address(name)], operation)

    def told(self, operation: str, *, client: str = "client") -> list[dict[str, Any]]:
        """Return the messages of one kind that a client was sent, in order."""
        return _of_kind(self.scheduler.client_comms[client], operation)

    # --- life

    def validate(self) -> None:
        """Let Dask check everything it knows against itself."""
        self.scheduler.validate_state()

    def close(self) -> None:
        """End the event loop and put settings back."""
        self._logger.removeHandler(self._log)
        self._logger.setLevel(self._level)
        self._runner.close()
        self._settings.__exit__(None, None, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                self.validate()
        finally:
            self.close()

    def __repr__(self) -> str:
        scheduler = self.scheduler
        return f"<DaskState {len(scheduler.workers)} workers, {len(scheduler.tasks)} tasks>"

    def _report(self, key: str, cause: str) -> dict[str, Any]:
        """Return what every message of a worker about its task carries; causes are Dask's words."""
        task = self.task(key)
        assert task.processing_on is not None, f"{key!r} is {task.state}, so no worker reports"
        return {
            "key": key,
            "worker": task.processing_on.address,
            "run_id": task.run_id,
            "stimulus_id": self._stimulus(cause),
        }

    def _status(self, name: str, status: str) -> None:
        change = self.scheduler.handle_worker_status_change
        self.do(change, status, self.address(name), self._stimulus(status))

    def _stimulus(self, cause: str) -> str:
        self._num_steps += 1
        return f"{cause}-{self._num_steps}"

    def _run(self, step: Coroutine[Any, Any, Any]) -> None:
        """Run one step in the event loop, then what it left there."""

        async def run() -> None:
            await step
            for _ in range(_TURNS):
                await asyncio.sleep(0)

        self._log.raised = []
        self._runner.run(run())
        raised = self._log.raised
        if self.allow_hook_errors:
            self.hook_errors += raised
        elif raised:
            raise raised[0]


def _nothing(*inputs: Any) -> None:
    """Stand for a task's work; no worker is there to do it."""


def _of_kind(stream: BatchedSend, operation: str) -> list[dict[str, Any]]:
    return [message for message in stream.buffer if message["op"] == operation]
