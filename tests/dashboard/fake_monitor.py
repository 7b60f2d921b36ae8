"""A monitor of a cluster that exists only in its figures, which move when they are told to."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sage_dask import breakdown
from sage_dask.breakdown import Breakdown, Part
from sage_dask.dashboard.board import JobView, Point
from sage_dask.dashboard.snapshot import NodeLoad, Snapshot
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import PlanError
from sage_dask.metrics import LatencySummary
from sage_dask.report import Report, StageCost
from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import ServerStatistics
from sage_dask.scheduling.statistics import (
    Decision,
    DispatcherStatistics,
    NodeStatistics,
    Notice,
)
from sage_dask.standing import Progress

THREADS = 8

_NAMES = ("rag", "rag-large", "summaries", "classify", "translate", "eval", "index", "dedupe")
_STAGES = ("embed", "retrieve", "rerank", "prompt", "generate", "keep")
_STAGE_SECONDS = (0.031, 0.0042, 0.058, 0.0006, 1.35, 0.00008)
_SERVERS = ("http://gpu-0:8000/v1", "http://gpu-1:8000/v1")
_REASONS = (
    "would end first: 3 of 8 threads busy, 0.4 s ahead",
    "would end first: its inputs lie here (4.2 MB)",
    "least loaded of 16 nodes",
)


def report(**changes: object) -> Report:
    """Return the report of a job that is under way."""
    plain = Report(
        pipeline="rag",
        job="7c2e",
        runner="dask",
        outcome="running",
        message="",
        num_read=0,
        num_written=0,
        num_failed=0,
        num_filtered=0,
        num_expanded=0,
        makespan_s=0.0,
        latency=LatencySummary(math.nan, math.nan, math.nan, 0),
        startup_s={},
        setup_s=0.0,
        stages={},
        nodes={},
    )
    return replace(plain, **changes)


def job(name: str = "rag/7c2e", state: str = "running", **changes: object) -> JobView:
    """Return a job; changes of its progress go by their names."""
    own = {
        key: changes.pop(key) for key in ("rate", "eta_s", "heard_s", "points") if key in changes
    }
    said = {"num_read": 0, "num_written": 0, "num_failed": 0, "num_filtered": 0, "expected": None}
    progress = Progress(name.partition("/")[0], elapsed_s=1.0, **{**said, **changes})
    return JobView(
        name, state, progress, **{"rate": 0.0, "eta_s": None, "heard_s": 0.2, "points": (), **own}
    )


def scheduling(**changes: object) -> DispatcherStatistics:
    """Return a dispatcher that has nothing to do."""
    plain = DispatcherStatistics("spread", 0, 0, 0, 0, 0, 0, {}, (), (), {}, {}, {}, {})
    return replace(plain, **changes)


def snapshot(jobs: Sequence[JobView] = (), **changes: object) -> Snapshot:
    """Return a snapshot of these jobs."""
    plain = Snapshot(1000.0, tuple(jobs), scheduling(), (), (), may_control=False)
    return replace(plain, **changes)


@dataclass
class FakeActions:
    """Does nothing, and notes what it was asked for."""

    calls: list[tuple[object, ...]] = field(default_factory=list)
    paused: set[str] = field(default_factory=set)

    def pause(self, job: str) -> None:
        """Note it."""
        self.calls.append(("pause", job))
        self.paused.add(job)

    def resume(self, job: str) -> None:
        """Note it."""
        self.calls.append(("resume", job))
        self.paused.discard(job)

    def cancel(self, job: str) -> None:
        """Note it."""
        self.calls.append(("cancel", job))

    def set_policy(self, policy: str) -> None:
        """Note it, or refuse one by name."""
        if policy == "pack":
            raise PlanError("policy 'pack' can not be had here")
        self.calls.append(("set_policy", policy))

    def set_gate(self, name: str, limit: float | None) -> None:
        """Note it."""
        self.calls.append(("set_gate", name, limit))


class FakeMonitor:
    """Makes lively snapshots; every one is the same until ``advance``.

    Args:
        num_jobs: Jobs under way; every fourth one is paused, silent, or over.
        num_nodes: Nodes of eight threads.
        may_control: Whether the page may act.
        history_s: For how long the jobs have run.
    """

    def __init__(
        self,
        num_jobs: int = 1,
        num_nodes: int = 16,
        *,
        may_control: bool = False,
        history_s: float = 240.0,
    ) -> None:
        self.actions = FakeActions()
        self.may_control = may_control
        self.now_s = 5000.0
        self.num_snapshots = 0
        self._num_jobs = num_jobs
        self._num_nodes = num_nodes
        self._random = random.Random(7)
        self._points: list[list[Point]] = [[] for _ in range(num_jobs)]
        self._done = [0.0] * num_jobs
        self._decisions: list[Decision] = []
        for _ in range(int(history_s)):
            self.advance(1.0)

    def advance(self, seconds: float) -> None:
        """Let time pass, and work be done."""
        self.now_s += seconds
        for index in range(self._num_jobs):
            if self._state(index) not in ("running", "silent") and self._done[index] > 900:
                continue
            base = (62.0, 148.0, 21.0, 9.5, 33.0, 80.0, 15.0, 4.2)[index % 8]
            wave = 1 + 0.25 * math.sin(self.now_s / (17 + 5 * index))
            rate = max(0.0, base * wave * self._random.gauss(1, 0.08))
            p50 = 1.9 / math.sqrt(base / 20) * self._random.gauss(1, 0.05)
            p99 = p50 * (
                2.4 + 0.5 * math.sin(self.now_s / 41 + index) + 0.1 * self._random.random()
            )
            self._points[index].append(Point(self.now_s, rate, p50, p99))
            del self._points[index][:-600]
            self._done[index] += rate * seconds
        if self._num_jobs:
            self._decide()

    def snapshot(self) -> Snapshot:
        """Return the cluster as it is."""
        self.num_snapshots += 1
        jobs = sorted(map(self._job, range(self._num_jobs)), key=lambda view: view.is_over)
        return Snapshot(
            self.now_s, jobs, self._dispatcher(), self._nodes(), self._notices(), self.may_control
        )

    def _state(self, index: int) -> str:
        return {3: "paused", 5: "silent", 6: "done", 7: "TooManyFailuresError"}.get(
            index, "running"
        )

    def _name(self, index: int) -> str:
        return f"{_NAMES[index % 8]}/{0x7C2E + 977 * index:04x}"

    def _job(self, index: int) -> JobView:
        name, state = self._name(index), self._state(index)
        if name in self.actions.paused:
            state = "paused"
        expected = (20_000, 60_000, None, 4_000, 12_000, 25_000, 1_200, 5_000)[index % 8]
        if state == "done":
            self._done[index] = expected or 0.0
        num_read = int(min(self._done[index], expected or 1e9))
        num_failed = (3, 0, 12, 0, 0, 41, 0, 500)[index % 8]
        points = self._points[index]
        rate = sum(point.rate for point in points[-10:]) / 10
        eta_s = (expected - num_read) / rate if expected and rate else None
        notes = {1: ("http://gpu-1:8000/v1 is down for 12 s: paused",)}.get(index, ())
        tokens = int(num_read * 812) if index % 3 != 2 else 0
        over = state not in ("running", "paused", "silent")
        return job(
            name,
            state,
            num_read=num_read,
            num_written=max(0, num_read - num_failed),
            num_failed=num_failed,
            expected=expected,
            notes=notes,
            tokens=tokens,
            cost=tokens * 4e-7,
            rate=0.0 if over else rate,
            eta_s=eta_s,
            heard_s=23.4 if state == "silent" else 0.2,
            points=tuple(points),
            report=self._report(index, state, num_read, num_failed),
        )

    def _report(self, index: int, state: str, num_read: int, num_failed: int) -> Report:
        scale = (1.0, 0.45, 1.7, 2.3, 1.2, 0.7, 3.1, 4.0)[index % 8]
        asks = index % 3 != 2
        names = _STAGES if asks else _STAGES[:4]
        seconds = [s * scale for s in _STAGE_SECONDS]
        stages = {}
        for place, name in enumerate(names):
            usage = Usage(
                requests=num_read + 31,
                retries=31,
                prompt_tokens=num_read * 700,
                completion_tokens=num_read * 112,
                cost=num_read * 812 * 4e-7,
            )
            stages[name] = StageCost(
                seconds[place] * num_read,
                num_read,
                num_read - (num_failed if place > 3 else 0),
                usage if name == "generate" else Usage(),
            )
        parts = [
            Part("admission", 0.004 * scale, "reading, packing and handing over"),
            Part("scheduling", 0.002, "until the dispatcher has looked and decided"),
            Part("node", 0.11 * scale, "waiting for a node with room"),
            Part("gate", 0.34 * scale, "waiting for a gate, or for a model server that is full"),
            Part(breakdown.TRANSFER, 0.013, "between driver, scheduler and workers"),
            Part("inputs", 0.003, "fetching inputs from other workers"),
            Part("queue", 0.006, "on the worker, waiting for a thread"),
        ]
        calls = (
            Part(breakdown.TURN, 0.21 * scale, "waiting to be sent"),
            Part(breakdown.SERVER_QUEUE, 0.12 * scale, "in the server's queue"),
            Part(breakdown.FIRST_TOKEN, 0.09 * scale, "until the server's first token"),
            Part(breakdown.GENERATION, 0.71 * scale, "from the first token to the last"),
            Part(breakdown.NETWORK, 0.02 * scale, "on the way, and in the server's front end"),
            Part(breakdown.REST, 0.2 * scale, "until the last record of the batch had its answer"),
        )
        for place, name in enumerate(names):
            of_stage = calls if name == "generate" else ()
            parts.append(
                Part(name, seconds[place], "computing, or waiting for answers", True, of_stage)
            )
        parts += [
            Part("return", 0.001, "back, until the driver looked"),
            Part("commit", 0.021, "waiting for its turn in the output, and writing or committing"),
            Part(breakdown.RESIDUE, 0.0004 * scale, "what nobody accounts for"),
        ]
        whole_s = sum(part.seconds for part in parts)
        failed = {
            f"q-{1000 + 37 * place}": "generate: TimeoutError: no answer within 30 s (3 tries)"
            for place in range(min(4, num_failed))
        }
        message = ""
        if state == "TooManyFailuresError":
            message = "500 of 2,512 records failed, and --max-errors allows 10 %"
        return report(
            outcome=state if state in ("done", "TooManyFailuresError") else "running",
            message=message,
            num_read=num_read,
            latency=LatencySummary(whole_s, 0.92 * whole_s, 2.6 * whole_s, num_read),
            stages=stages,
            breakdown=Breakdown(num_read - num_failed, whole_s, tuple(parts)),
            last_failures=failed,
        )

    def _decide(self) -> None:
        stage = _STAGES[int(self.now_s) % len(_STAGES)]
        index = int(self.now_s) % self._num_jobs
        node = f"node-{int(self.now_s * 7) % self._num_nodes:02}"
        reason = _REASONS[int(self.now_s) % 3]
        key = f"{stage}-{int(self.now_s)}"
        self._decisions.append(Decision(self.now_s, key, self._name(index), stage, node, reason))
        del self._decisions[:-20]

    def _dispatcher(self) -> DispatcherStatistics:
        nodes = {}
        for index in range(self._num_nodes):
            busy = (int(self.now_s) * (3 + index) + 5 * index) % (THREADS + 1)
            busy = busy if self._num_jobs else 0
            waiting = 4 if self._num_jobs and index % 5 == 0 else 0
            slowdown = 2.1 if index == 6 else 1.0
            nodes[f"node-{index:02}"] = NodeStatistics(
                THREADS, busy + waiting, 400 + 13 * index, 61.0, slowdown, waiting, None
            )
        running = sum(node.in_flight for node in nodes.values())
        gates, servers = {}, {}
        if self._num_jobs:
            gates = {
                "llm": GateStatistics(32, 32.0),
                "disk": GateStatistics(None, 3.0),
                "gpu": GateStatistics(8, 5.0),
            }
            servers = {
                _SERVERS[0]: ServerStatistics(
                    64,
                    True,
                    57,
                    64,
                    2.0,
                    61.0,
                    "the server has 2 waiting: as many as it runs",
                    None,
                ),
                _SERVERS[1]: ServerStatistics(16, False, 1, 16, None, None, "set by hand", 12.4),
            }
        return scheduling(
            num_queued=812 * self._num_jobs,
            num_running=running,
            latest=tuple(self._decisions),
            gates=gates,
            servers=servers,
            nodes=nodes,
        )

    def _nodes(self) -> list[NodeLoad]:
        busy = 1.0 if self._num_jobs else 0.05
        return [
            NodeLoad(
                f"node-{index:02}",
                2,
                THREADS,
                0.91 if index == 3 and self._num_jobs else 0.24 + 0.02 * (index % 9),
                busy * (0.35 + 0.04 * (index % 11)),
                {3: 2, 11: 1}.get(index, 0) if self._num_jobs else 0,
            )
            for index in range(self._num_nodes)
        ]

    def _notices(self) -> list[tuple[float, Notice]]:
        if self._num_jobs < 8:
            return []
        text = (
            "tasks of stage 'classify' ask for GPU=1, and no worker has any; start workers with "
            "--resources GPU=1, or lower the stage's resources"
        )
        return [(self.now_s - 75, Notice("unplaceable", text))]
