"""What Prometheus is told of a cluster: tasks, gates, model servers, nodes, and notices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from sage_dask.dashboard.families import Family, counter, gauge
from sage_dask.dashboard.snapshot import NodeLoad, Snapshot
from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import ServerStatistics
from sage_dask.scheduling.statistics import DispatcherStatistics, NodeStatistics


def cluster_families(snapshot: Snapshot) -> Iterator[Family]:
    """Yield all families of a cluster, those without a sample too."""
    scheduling = snapshot.scheduling
    yield from _scheduler(scheduling)
    yield from _gates({} if scheduling is None else scheduling.gates)
    yield from _servers({} if scheduling is None else scheduling.servers)
    yield from _nodes(snapshot.nodes)
    yield from _nodes_in_use({} if scheduling is None else scheduling.nodes)
    yield from _news(snapshot)


def _scheduler(scheduling: DispatcherStatistics | None) -> Iterator[Family]:
    tasks = gauge(
        "tasks",
        "Tasks of pipelines by state: queued (held back until there is room), running (on a node), "
        "abandoned (cancelled, but still running, and holding what they held).",
        "state",
    )
    decisions = counter("decisions", "Tasks that were placed on a node, by policy.", "policy")
    if scheduling is not None:
        tasks.add_metric(["queued"], scheduling.num_queued)
        tasks.add_metric(["running"], scheduling.num_running)
        tasks.add_metric(["abandoned"], scheduling.num_abandoned)
        for policy, number in scheduling.decisions.items():
            decisions.add_metric([policy], number)
    yield from (tasks, decisions)


def _gates(gates: Mapping[str, GateStatistics]) -> Iterator[Family]:
    limit = gauge("gate_limit_slots", "Slots of the gate; absent without a limit.", "gate")
    held = gauge("gate_held_slots", "Slots of the gate that tasks hold.", "gate")
    for name, gate in gates.items():
        held.add_metric([name], gate.held)
        if gate.limit is not None:
            limit.add_metric([name], gate.limit)
    yield from (limit, held)


def _servers(servers: Mapping[str, ServerStatistics]) -> Iterator[Family]:
    limit = gauge("server_limit_requests", "Requests that may be under way at once.", "server")
    in_flight = gauge("server_in_flight_requests", "Requests of ours under way.", "server")
    allotted = gauge(
        "server_allotted_requests",
        "Requests that workers may have under way, as far as they know.",
        "server",
    )
    waiting = gauge(
        "server_waiting_requests",
        "Requests of anyone in the server's queue, as it says itself; absent where it does not.",
        "server",
    )
    running = gauge(
        "server_running_requests",
        "Requests of anyone that the server works on, as it says itself; absent where it does not.",
        "server",
    )
    down = gauge(
        "server_down_seconds",
        "For how long no request has come through; 0 while they do.",
        "server",
    )
    for endpoint, server in servers.items():
        limit.add_metric([endpoint], server.limit)
        in_flight.add_metric([endpoint], server.in_flight)
        allotted.add_metric([endpoint], server.allotted)
        down.add_metric([endpoint], server.down_s or 0.0)
        if server.waiting is not None:
            waiting.add_metric([endpoint], server.waiting)
        if server.running is not None:
            running.add_metric([endpoint], server.running)
    yield from (limit, in_flight, allotted, waiting, running, down)


def _nodes(nodes: Sequence[NodeLoad]) -> Iterator[Family]:
    """Yield what Dask knows of nodes."""
    threads = gauge("node_threads", "Threads of the node's workers.", "node")
    workers = gauge("node_workers", "Worker processes of the node.", "node")
    paused = gauge(
        "node_paused_workers",
        "Workers of the node that take no tasks: short of memory, or on their way out.",
        "node",
    )
    memory = gauge(
        "node_memory_ratio",
        "Share of its memory that is in use, of the node's worker that is shortest of it.",
        "node",
    )
    cpu = gauge("node_cpu_ratio", "Share of the node's processor that is in use.", "node")
    for node in nodes:
        threads.add_metric([node.name], node.num_threads)
        workers.add_metric([node.name], node.num_workers)
        paused.add_metric([node.name], node.num_paused)
        if node.memory is not None:
            memory.add_metric([node.name], node.memory)
        if node.cpu is not None:
            cpu.add_metric([node.name], node.cpu)
    yield from (threads, workers, paused, memory, cpu)


def _nodes_in_use(nodes: Mapping[str, NodeStatistics]) -> Iterator[Family]:
    """Yield what the dispatcher knows of nodes."""
    in_flight = gauge("node_in_flight_tasks", "Tasks that the node was given and has.", "node")
    waiting = gauge(
        "node_waiting_tasks",
        "Of the tasks in flight, those that wait for a server and take no thread.",
        "node",
    )
    slowdown = gauge(
        "node_slowdown_ratio",
        "How much longer tasks take on the node than elsewhere: 1 is as long, 2 twice.",
        "node",
    )
    idle = gauge(
        "node_idle_seconds", "For how long the node has had no task; 0 while it has any.", "node"
    )
    for name, node in nodes.items():
        in_flight.add_metric([name], node.in_flight)
        waiting.add_metric([name], node.num_waiting)
        slowdown.add_metric([name], node.slowdown)
        idle.add_metric([name], node.idle_s or 0.0)
    yield from (in_flight, waiting, slowdown, idle)


def _news(snapshot: Snapshot) -> Iterator[Family]:
    notices = gauge(
        "notices",
        "Notices among the latest, by kind: such as unplaceable for tasks that nothing can run.",
        "kind",
    )
    for kind, number in Counter(notice.kind for _, notice in snapshot.notices).items():
        notices.add_metric([kind], number)
    errors = counter(
        "observer_errors",
        "How often observing itself went wrong; no task is the worse for it, but metrics may lack "
        "something.",
    )
    errors.add_metric([], snapshot.num_observer_errors)
    yield from (notices, errors)
