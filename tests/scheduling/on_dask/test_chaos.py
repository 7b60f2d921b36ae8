"""Pipelines under gates while everything around them changes: nothing lost, nothing doubled.

Nodes are killed and join, policies are switched, gates opened and narrowed, other people's tasks
cancelled, in a random order that a seed repeats.  What tasks really do at once is counted
outside Dask, by a server that they connect to while they hold a slot.
``SAGE_DASK_CHAOS_STEPS`` makes it longer, ``SAGE_DASK_CHAOS_SEED`` another one.
"""

from __future__ import annotations

import os
import random
import socket
import socketserver
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress

import dask
import pytest
from distributed import Client

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cluster import LocalNodes
from sage_dask.report import Report
from sage_dask.scheduling.on_dask.control import SchedulerControl
from sage_dask.scheduling.on_dask.settings import Settings
from tests.scheduling.on_dask.live import plugin_of

STEPS = int(os.environ.get("SAGE_DASK_CHAOS_STEPS", "12"))
SEED = int(os.environ.get("SAGE_DASK_CHAOS_SEED", "3"))

NUM_PIPELINES = 3
MOST_NODES = 4
GATE = "llm"
WIDEST = 4
POLICIES = ("fifo", "round-robin", "spread", "pack", "priority")

# Of any one step; a cluster that goes on at all is far quicker.
PATIENCE_S = 180


class Turnstile(socketserver.ThreadingTCPServer):
    """Counts the connections that are open at once: tasks hold one while they hold a slot.

    A process that is killed closes its connections, so its tasks leave too.
    """

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Passage)
        self.lock = threading.Lock()
        self.inside = 0
        self.most_inside = 0
        self.num_entries = 0

    @property
    def port(self):
        """Where it listens."""
        return self.server_address[1]


class _Passage(socketserver.BaseRequestHandler):
    def handle(self):
        """Count one until its task hangs up."""
        server = self.server
        with server.lock:
            server.inside += 1
            server.num_entries += 1
            server.most_inside = max(server.most_inside, server.inside)
        # A task that is killed hangs up rudely, and is outside all the same.
        with suppress(ConnectionError):
            self.request.sendall(b"+")
            while self.request.recv(64):
                pass
        with server.lock:
            server.inside -= 1
        with suppress(ConnectionError):
            self.request.sendall(b"-")


def pass_through(record, port, work_s):
    """Work for a record, counted outside Dask meanwhile."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        assert connection.recv(1) == b"+"
        time.sleep(work_s)
        # Answered when it was counted, so that nobody is counted after its slot was given back.
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    return {**record, "done": True}


@contextmanager
def turnstile():
    """Lend a counting server."""
    with Turnstile() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Chaos:
    """What may happen around running pipelines, one step at a time."""

    def __init__(self, nodes, control, server, client, dice):
        self.nodes = nodes
        self.control = control
        self.server = server
        self.client = client
        self.dice = dice
        self.others = []
        self.log = []

    def step(self):
        """Do something."""
        act = self.dice.choice(
            [self.kill, self.retire, self.join, self.policy, self.gate, self.strangers, self.cancel]
        )
        self.log.append(act.__name__)
        act()

    def kill(self):
        """Pull the plug of a node."""
        if len(self.nodes.names) > 1:
            self.nodes.remove(self.dice.choice(self.nodes.names), kill=True)

    def retire(self):
        """Send a node home; it ends what it runs first."""
        if len(self.nodes.names) > 1:
            self.nodes.remove(self.dice.choice(self.nodes.names))

    def join(self):
        """Bring a node."""
        if len(self.nodes.names) < MOST_NODES:
            self.nodes.add()

    def policy(self):
        """Decide by another policy."""
        self.control.set_policy(self.dice.choice(POLICIES))

    def gate(self):
        """Widen or narrow the gate; what is inside may stay."""
        self.control.set_gate(GATE, self.dice.randint(1, WIDEST))

    def strangers(self):
        """Submit tasks under the same gate that nobody may ever want."""
        said = {"job": "x", "pipeline": "stranger", "stage": "ask", "gates": {GATE: 1}}
        with dask.annotate(sage=said):
            self.others += self.client.map(
                pass_through, [{} for _ in range(6)], port=self.server.port, work_s=0.05, pure=False
            )

    def cancel(self):
        """Cancel those tasks, waiting or running."""
        self.client.cancel(self.others)
        self.others = []


def pipeline(name, sink, port, number):
    """Return a pipeline of two tasks per batch, one of them under the gate."""

    def ask(record):
        return pass_through(record, port, 0.01)

    return (
        Pipeline(name)
        .source(FromIterable([{"n": n} for n in range(number)]))
        .map(ask, name="ask", gates={GATE: 1})
        .map(dict, name="copy", resources={"SEAT": 1})
        .sink(sink)
    )


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(120 + 10 * STEPS)
def test_every_record_comes_once_and_the_gate_holds():
    """Through all of it; and when it is over the dispatcher's books are empty."""
    number = 40 * STEPS
    sinks = [Collect() for _ in range(NUM_PIPELINES)]
    settings = {"distributed.scheduler.validate": True}
    with (
        dask.config.set(settings),
        turnstile() as server,
        LocalNodes(3, threads=2, resources={"SEAT": 2}, dashboard=None) as nodes,
        Client(nodes._cluster, set_as_default=False) as client,
        ThreadPoolExecutor(NUM_PIPELINES) as pool,
    ):
        control = SchedulerControl(client)
        control.start(Settings("spread", gates={GATE: WIDEST}))
        plugin, notices = plugin_of(nodes._cluster), []
        chaos = Chaos(nodes, control, server, client, random.Random(SEED))
        with control.notices(notices.append):
            runs = [
                pool.submit(
                    pipeline(f"chaos-{n}", sink, server.port, number).run,
                    nodes,
                    batch_size=4,
                    weight=n + 1,
                    ordered=n == 0,
                )
                for n, sink in enumerate(sinks)
            ]
            reports = _run(chaos, runs, server)
        chaos.cancel()
        _wait_for(lambda: _is_empty(plugin))
        statistics = control.statistics()

    assert server.most_inside <= WIDEST
    assert server.num_entries >= NUM_PIPELINES * number
    for sink, report in zip(sinks, reports, strict=True):
        written = [record["n"] for record in sink.records]
        assert len(set(written)) == len(written), chaos.log
        # A batch that was alone on the cluster both times that a node died is taken for the cause.
        assert len(written) + report.num_failed == number, chaos.log
    assert [notice for notice in notices if notice.kind != "unplaceable"] == []
    assert statistics.num_policy_errors == 0
    assert statistics.gates[GATE].held == 0


def _run(chaos: Chaos, runs: list[Future], server: Turnstile) -> list[Report]:
    """Take one step after every few records, and wait for the runs' ends."""
    for _ in range(STEPS):
        enough = server.num_entries + 40
        _wait_for(
            lambda enough=enough: server.num_entries >= enough or all(run.done() for run in runs)
        )
        chaos.step()
    chaos.control.set_gate(GATE, WIDEST)
    return [run.result(timeout=PATIENCE_S) for run in runs]


def _is_empty(plugin) -> bool:
    statistics = plugin.dispatcher.statistics(0.0)
    return not (statistics.num_running or statistics.num_queued or statistics.num_abandoned)


def _wait_for(condition) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.01)
