"""Tasks, workers, views and dispatchers in one line each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.view import NodeView, TaskView, demand

URL, OTHER_URL = "http://gpu-0:8000/v1", "http://gpu-1:8000/v1"

IDLE = NodeView(
    name="n1",
    threads=4.0,
    in_flight=0,
    outstanding_s=0.0,
    recent_s=0.0,
    slowdown=1.0,
    typical_s=1.0,
    memory=None,
    cpu=None,
    idle_since_s=0.0,
    free_since_s=0.0,
    last_placed=0,
)


def task(key, job="rag/1", stage="embed", *, now=0.0, threads=1, **more):
    """Return a task that came at ``now``; its needs are as ``demand`` takes them."""
    needs = {name: more.pop(name, None) for name in ("resources", "gates", "workers")}
    servers = more.pop("endpoints", ())
    return TaskView(
        key,
        job,
        stage,
        demand(
            needs["resources"],
            needs["gates"],
            threads=threads,
            workers=needs["workers"],
            endpoints=servers,
        ),
        arrived_s=now,
        ready_s=now,
        **more,
    )


def asking(key, *endpoints, requests=4, **more):
    """Return a task that takes no thread and sends requests, to the server ``URL`` by default."""
    return task(key, threads=0, endpoints=endpoints or (URL,), requests=requests, **more)


def worker(address, node=None, threads=1, **resources):
    """Return a worker, by itself on a node of its name unless told otherwise."""
    return WorkerInfo(address, node or address, threads, resources)


def dispatcher(policy, *workers, now=0.0, **options):
    """Return a dispatcher with these workers."""
    core = Dispatcher(policy, **options)
    for info in workers:
        core.worker_joined(info, now)
    return core


def submit(core, *tasks, now=0.0):
    """Hand over tasks, dispatch, and return what started where."""
    for each in tasks:
        core.task_ready(each, now)
    return dispatch(core, now)


def dispatch(core, now=0.0):
    """Dispatch, check the core's counts, and return what started where."""
    starts = core.dispatch(now)
    core.validate()
    return [(start.key, start.node) for start in starts]


def keys(starts):
    """Return what started, without where."""
    return [key for key, _ in starts]


def view(name, **changes):
    """Return a node with four threads and no tasks, with these changes."""
    return replace(IDLE, name=name, **changes)


@dataclass
class FakeCluster:
    """A cluster of given nodes, in the order in which they are given."""

    views: list[NodeView]
    now_s: float = 0.0
    num_queued: int = 1
    queued_s: float = 0.0
    busy_threads: float = 0.0

    @property
    def best(self) -> NodeView:
        """The first node."""
        return self.views[0]

    @property
    def nodes(self) -> Iterator[NodeView]:
        """All nodes."""
        return iter(self.views)

    def get(self, name: str) -> NodeView | None:
        """Return a node by name."""
        return next((node for node in self.views if node.name == name), None)


def offered(policy, views, **facts):
    """Return a fake cluster whose nodes stand in a policy's order, as the core offers them."""
    ordered = sorted(views, key=lambda node: (policy.rank(node), node.name))
    return FakeCluster(ordered, **facts)
