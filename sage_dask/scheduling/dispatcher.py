"""The scheduler's core: events in, instructions with a reason out.

It has no clock, no I/O and no Dask.  The same core decides in the scheduler
plugin, in the simulator and in the tests, so what is simulated is what runs.
Every event says when it happened; ``dispatch`` then says what starts where.  A
task gets its node, its resources and its gate slots at once or waits holding
nothing, so no number of waiting tasks can deadlock it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

from sage_dask.endpoint.address import check_endpoint, is_endpoint
from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.limit import RequestLimit
from sage_dask.endpoint.report import RequestReport
from sage_dask.errors import InvariantError, PolicyError
from sage_dask.scheduling import explain, invariants
from sage_dask.scheduling.fifo import Fifo
from sage_dask.scheduling.guard import GuardedPolicy
from sage_dask.scheduling.ledger import Lease
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.policies import DEFAULT, make_policy
from sage_dask.scheduling.policy import Policy
from sage_dask.scheduling.queue import Entry, Line
from sage_dask.scheduling.rounds import Rounds
from sage_dask.scheduling.servers import Allotment, Servers, Share
from sage_dask.scheduling.statistics import (
    DispatcherStatistics,
    Load,
    NodeStatistics,
    Notice,
    Start,
)
from sage_dask.scheduling.view import Key, TaskView
from sage_dask.scheduling.waits import between

OnPolicyError: TypeAlias = Literal["fail", "fallback"]

# Nodes come and go; a task that nothing can take for this long is worth a word.
GRACE_S = 2.0

# A cancelled task that runs on for this long is worth a word, too.
ENDLESS_S = 60.0


class Dispatcher(Rounds):
    """Decides which task runs next, and where.

    Args:
        policy: A policy's name or an instance.
        saturation: Tasks that a worker is given per thread; above 1.0 the next one is there
            before the last has ended, and can not be placed elsewhere any more.
        patience_s: How long the first task of all may be blocked before a place is kept for it.
        on_policy_error: ``"fail"`` stops dispatching when the policy does something wrong;
            ``"fallback"`` goes on with ``fifo`` and a notice.
        num_stories: Tasks whose stories are kept.
        servers: Model servers that are known already, such as to a predecessor.
        timer: A clock in seconds that tells how long a policy takes; None where there is none.
    """

    def __init__(
        self,
        policy: str | Policy = DEFAULT,
        *,
        saturation: float = 1.0,
        patience_s: float = 5.0,
        on_policy_error: OnPolicyError = "fail",
        num_stories: int = 4096,
        servers: Servers | None = None,
        timer: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(
            GuardedPolicy(make_policy(policy), timer),
            saturation,
            patience_s,
            num_stories,
            Servers() if servers is None else servers,
        )
        self.failure: PolicyError | None = None
        """What the policy did wrong; nothing is dispatched until another one is set."""
        self.on_policy_error = on_policy_error
        self._timer = timer
        self._notices: list[Notice] = []
        self._num_policy_errors = 0

    # Machines

    def worker_joined(self, info: WorkerInfo, now_s: float) -> None:
        """Note a worker that can take tasks from now on."""
        if info.address not in self.nodes.workers:
            self.nodes.join(info, now_s)

    def worker_left(self, address: str, now_s: float) -> list[Key]:
        """Note that a worker is gone, with all that its tasks held.

        Returns:
            Keys of its tasks; they are not queued again until they are ready again.
        """
        if address not in self.nodes.workers:
            return []
        lost = [key for key, lease in self.ledger.running.items() if lease.worker == address]
        for key in lost:
            self.task_ended(key, now_s, how="lost with its worker")
        for key, worker in list(self.ledger.abandoned):
            if worker == address:
                self.abandoned_ended(key, worker, now_s)
        self.nodes.leave(address)
        self.backlog.left(address)
        self.servers.worker_left(address, now_s)
        self._is_allotment_due = True
        return lost

    def worker_running(self, address: str, is_running: bool) -> None:
        """Note that a worker takes tasks again, or is paused or closing."""
        if address in self.nodes.workers:
            self.nodes.set_running(address, is_running)

    def node_measured(
        self, node: str, memory: float | None, cpu: float | None, now_s: float
    ) -> None:
        """Note what share of its memory and its processor a node uses."""
        if node in self.nodes:
            self.nodes.measure(node, memory, cpu, now_s)

    # Tasks

    def job_arrived(
        self, name: str, weight: float = 1.0, quota: Mapping[str, float] | None = None
    ) -> None:
        """Note what a job asks for itself; names of jobs are ``"pipeline/id"``."""
        self.jobs.declare(name, weight, quota or {})
        self._changed_jobs.update(self.jobs)

    def job_left(self, name: str) -> None:
        """Note that a job is over."""
        self.jobs.withdraw(name)

    def task_ready(self, task: TaskView, now_s: float) -> None:
        """Note a task that could run; one that waits or runs already is ignored."""
        if task.key in self.queue or task.key in self.ledger.running:
            return
        entry = self._push(task)
        entry.mark = entry.lane.waited(now_s)
        self.stories.add(task.key, now_s, "queued")

    def task_running(self, task: TaskView, worker: str, now_s: float) -> None:
        """Note a task that somebody else has started, so that what it holds is counted."""
        if task.key in self.ledger.running:
            return
        self.task_withdrawn(task.key, now_s)
        job = self.jobs.obtain(task.job)
        charged_s = self.nodes.take(self.nodes.workers[worker], task, self._num_decisions, now_s)
        self._open(Lease(task, worker, self.nodes.workers[worker].node, now_s, charged_s), job)
        self._changed_jobs.add(job)
        self.stories.add(task.key, now_s, f"found running on {self.nodes.workers[worker].node}")

    def task_raised(self, key: Key, priority: float) -> None:
        """Raise a waiting task's priority, as one of higher priority waits for its result."""
        entry = self.queue.get(key)
        if entry is not None and priority > entry.task.priority:
            self.queue.remove(key)
            # It goes on waiting in the same lane.
            self._push(replace(entry.task, priority=priority)).mark = entry.mark

    def task_withdrawn(self, key: Key, now_s: float) -> Mapping[str, float]:
        """Note that a waiting task is not to start, for now or for ever.

        Returns:
            Seconds that it has waited, by reason, since it came.
        """
        entry = self.queue.get(key)
        if entry is None:
            return {}
        waits = between(entry.mark, entry.lane.waited(now_s))
        job = self.queue.remove(key).lane.job
        self.stories.add(key, now_s, "withdrawn")
        self._drop_if_idle(job)
        return waits

    def task_ended(
        self, key: Key, now_s: float, *, seconds: float | None = None, how: str = "done"
    ) -> None:
        """Note that a task does not run any more, and give back all it held.

        Args:
            key: The task; one that holds nothing is ignored.
            now_s: When.
            seconds: What it took; None where that teaches nothing, such as after a failure.
            how: For its story.
        """
        lease = self.ledger.close(key)
        if lease is None:
            return
        if seconds is not None and math.isfinite(seconds):
            self._learn(lease, seconds, now_s)
        self._give_back(lease, now_s)
        self.stories.add(key, now_s, how, f"on {lease.node}" if seconds is None else "")

    def task_abandoned(self, key: Key, now_s: float) -> None:
        """Note that nobody wants a running task any more; it keeps what it holds."""
        lease = self.ledger.abandon(key, now_s)
        if lease is not None:
            self.nodes.workers[lease.worker].num_abandoned += 1
            self.stories.add(key, now_s, "cancelled", "runs on, and keeps what it holds until then")

    def abandoned_ended(self, key: Key, worker: str, now_s: float) -> None:
        """Note that a worker is done with a cancelled task."""
        lease = self.ledger.close_abandoned(key, worker)
        if lease is not None:
            self._give_back_abandoned(lease, now_s)
            self.stories.add(key, now_s, "ended after it was cancelled")

    # Requests to model servers

    def server_needed(self, endpoint: str, limit: RequestLimit) -> None:
        """Note a server that tasks send requests to, and what its user asks of the gate."""
        self.servers.declare(endpoint, limit)

    def requests_reported(self, worker: str, report: RequestReport, now_s: float) -> None:
        """Note what a worker says of its requests."""
        if worker not in self.nodes.workers:
            return
        for key, outstanding in report.outstanding.items():
            lease = self.ledger.find(key, worker)
            if lease is not None:
                self.backlog.correct(lease, outstanding)
        self.backlog.heard(worker, now_s)
        self.servers.observe_report(worker, report, now_s)
        self._is_allotment_due = True

    def gauges_observed(self, endpoint: str, gauges: Gauges, now_s: float) -> None:
        """Note what a server says of its own load."""
        self.servers.observe_gauges(endpoint, gauges, now_s)
        self._is_allotment_due = True

    def allotments(self, now_s: float) -> Mapping[str, Allotment]:
        """Divide the servers' slots anew; return the workers whose share has changed."""
        if not self._is_allotment_due:
            return {}
        self._is_allotment_due = False
        shares = {job.name: Share(job.weight, job.quota) for job in self.jobs}
        wants = [want for want in self.backlog.wants() if want.worker not in self.backlog.silent]
        return self.servers.allot(wants, shares, now_s)

    def load(self) -> Load:
        """Return what jobs should know of gates and servers: room, and outages."""
        servers = self.servers.statistics()
        wanted = {endpoint: self.backlog.wanted((endpoint,)) for endpoint in servers}
        return Load(self.gates.statistics(), servers, wanted)

    # Settings

    @property
    def policy(self) -> Policy:
        """The policy that decides."""
        return self._policy.policy

    def set_policy(self, policy: str | Policy) -> None:
        """Decide by another policy; what waits follows it at once."""
        self._policy = GuardedPolicy(make_policy(policy), self._timer)
        self.failure = None
        self._reservations.clear()
        try:
            self.queue.rebuild(self._policy.precedence)
        except PolicyError as error:
            self._blame(error)
        self.nodes.forget_ranks()

    def set_gate(self, name: str, limit: float | None) -> None:
        """Set the slots of a gate; below what is held, nothing starts until enough came back.

        The gate of a model server bears the server's URL; without a limit it finds its own.
        """
        if is_endpoint(name):
            self.servers.set_limit(check_endpoint(name, needed_by="set_gate"), limit)
            self._is_allotment_due = True
        else:
            self.gates.set_limit(name, limit)

    def set_weight(self, job: str, weight: float) -> None:
        """Set the share of a job, or of each job of a pipeline."""
        self.jobs.set_weight(job, weight)

    def set_quota(self, job: str, quota: Mapping[str, float]) -> None:
        """Set the most that a job, or each job of a pipeline, may hold."""
        self.jobs.set_quota(job, quota)
        self._changed_jobs.update(self.jobs)

    def set_paused(self, job: str, is_paused: bool) -> None:
        """Have a job (``"pipeline/id"``) start nothing until it is resumed; what runs, runs on."""
        self.jobs.set_paused(job, is_paused)
        self._changed_jobs.update(self.jobs)

    # Decisions

    def dispatch(self, now_s: float) -> list[Start]:
        """Start whatever can start now, best first."""
        starts: list[Start] = []
        while self.failure is None:
            try:
                self._decide_all(starts, now_s)
                break
            except PolicyError as error:
                self._blame(error)
        return starts

    @property
    def next_wake_s(self) -> float | None:
        """When to dispatch again though nothing has happened; None if there is no need to."""
        if self.failure is not None or not self.queue:
            return None
        times = [line.wait.until_s for line in self._waiting_lines if line.wait is not None]
        if self._reservations.until_s is not None:
            times.append(self._reservations.until_s)
        return min(times, default=None)

    def tick(self, now_s: float) -> list[Notice]:
        """Look after what no event tells, about once a second; return what should be known."""
        for line in self.queue.lines.values():
            self._check_possible(line, now_s)
        for lease in self.ledger.abandoned.values():
            self._check_end(lease, now_s)
        self.gates.drop_unused()
        self.backlog.tick(now_s)
        for worker in self.backlog.silent:
            self.servers.worker_silent(worker)
            # Until the shell says otherwise: what is placed there now would be stuck as well.
            self.worker_running(worker, False)
            self._is_allotment_due = True
        self.servers.drop_unused(now_s)
        self.queue.drop_spare_lines()
        self.nodes.keep_pools({demand.fit for demand in self.queue.lines})
        # Measurements go stale, and evidence against slow nodes fades.
        self.nodes.change_all()
        notices, self._notices = self._notices, []
        return notices

    def _push(self, task: TaskView) -> Entry:
        try:
            precedence = self._policy.precedence(task)
        except PolicyError as error:
            self._blame(error)
            precedence = self._policy.precedence(task) if self.failure is None else 0.0
        return self.queue.push(task, precedence, self.jobs.obtain(task.job))

    def _blame(self, error: PolicyError) -> None:
        """Stop, or go on with ``fifo``: whatever was chosen for policies that do wrong."""
        self._num_policy_errors += 1
        if self.on_policy_error == "fail":
            self.failure = error
            return
        self._notices.append(
            Notice("policy", f"{error}\nfrom now on 'fifo' places the tasks; set another policy")
        )
        self.set_policy(Fifo())

    def _check_possible(self, line: Line, now_s: float) -> None:
        """Notice a line that nothing in the cluster can ever serve, once."""
        if not line.size or (self._is_possible(line) and not line.above_quota):
            line.impossible_since_s, line.is_reported = None, False
            return
        if line.impossible_since_s is None:
            line.impossible_since_s = now_s
        if not line.is_reported and now_s - line.impossible_since_s >= GRACE_S:
            line.is_reported = True
            text = explain.unplaceable(line, self.nodes, self.gates, self.backlog)
            self._notices.append(Notice("unplaceable", text))

    def _check_end(self, lease: Lease, now_s: float) -> None:
        """Notice a cancelled task that does not end, once."""
        abandoned_s = lease.abandoned_s
        if abandoned_s is None or lease.is_reported or now_s - abandoned_s < ENDLESS_S:
            return
        lease.is_reported = True
        text = explain.endless(lease.task, lease.worker, now_s - abandoned_s)
        self._notices.append(Notice("abandoned", text))

    # Telling

    def why(self, key: Key, now_s: float) -> list[str]:
        """Return the story of a task in sentences, first things first."""
        lines = [
            f"{now_s - chapter.at_s:8.3f} s ago  {chapter}" for chapter in self.stories.of(key)
        ]
        entry = self.queue.get(key)
        if entry is not None:
            lines.append(f"{'now':>14}  {self._why_waiting(entry)}")
        elif key in self.ledger.running:
            lines.append(f"{'now':>14}  running on {self.ledger.running[key].node}")
        return lines

    def _why_waiting(self, entry: Entry) -> str:
        if self.failure is not None:
            return f"waits: nothing is placed any more, since {self.failure.args[0]}"
        kept = self._reservations.entry
        return explain.waiting(entry, self.nodes, self.gates, self.backlog, kept_for=kept)

    def statistics(self, now_s: float) -> DispatcherStatistics:
        """Return counts of everything."""
        return DispatcherStatistics(
            policy=self.policy.name,
            num_queued=len(self.queue),
            num_running=len(self.ledger.running),
            num_abandoned=len(self.ledger.abandoned),
            num_decisions=self._num_decisions,
            num_reserved=self._num_reserved,
            num_policy_errors=self._num_policy_errors,
            decisions=dict(self._decisions),
            latest=list(self._latest),
            paused=sorted(self.jobs.paused),
            gates=self.gates.statistics(),
            servers=self.servers.statistics(),
            jobs=self.jobs.statistics(),
            nodes={
                node.name: NodeStatistics(
                    node.threads,
                    node.in_flight,
                    node.num_placed,
                    node.placed_s,
                    node.slowdown.value(now_s),
                    node.num_waiting,
                    None if node.idle_since_s is None else now_s - node.idle_since_s,
                )
                for node in self.nodes
            },
        )

    def validate(self) -> None:
        """Derive every count anew and compare.

        For moments just after ``dispatch``, when all changes have reached the pools.

        Raises:
            InvariantError: Counts are wrong; the message names each.
        """
        found = list(
            invariants.violations(
                self.nodes,
                self.gates,
                self.backlog,
                self.jobs,
                self.queue,
                self.ledger,
                is_deciding=self.failure is None and bool(self.queue),
            )
        )
        if found:
            raise InvariantError("; ".join(found))

    def __repr__(self) -> str:
        return (
            f"<Dispatcher {self.policy.name!r} {len(self.ledger.running)} running on "
            f"{len(self.nodes)} nodes, {len(self.queue)} waiting>"
        )
