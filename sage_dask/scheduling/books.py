"""What the dispatcher knows and who holds what: one place for every count.

Each change of who holds what goes through here, so that worker, node, gate and
job are counted together or not at all.
"""

from __future__ import annotations

from sage_dask.scheduling.backlog import Backlog
from sage_dask.scheduling.durations import Durations
from sage_dask.scheduling.gate import Gates
from sage_dask.scheduling.jobs import Job, Jobs
from sage_dask.scheduling.ledger import Lease, Ledger
from sage_dask.scheduling.nodes import Nodes
from sage_dask.scheduling.queue import Queue
from sage_dask.scheduling.servers import Servers
from sage_dask.scheduling.story import Stories


class Books:
    """Machines, gates, jobs, what waits, what is held, and what has happened.

    Args:
        saturation: Tasks that a worker is given per thread.
        num_stories: Tasks whose stories are kept.
        servers: Model servers that are known already.
    """

    def __init__(self, saturation: float, num_stories: int, servers: Servers) -> None:
        self.durations = Durations()
        self.nodes = Nodes(self.durations, saturation)
        self.gates = Gates()
        self.servers = servers
        self.backlog = Backlog(servers)
        self.jobs = Jobs()
        self.queue = Queue(lambda demand: self.nodes.pool(demand.fit))
        self.ledger = Ledger()
        self.stories = Stories(num_stories)
        self._is_allotment_due = True
        """Whether servers' slots should be divided anew."""
        self._changed_jobs: set[Job] = set()
        """Jobs whose pass or quota has changed since their lanes were put in order."""

    def _open(self, lease: Lease, job: Job) -> None:
        """Count all that a task holds beside its worker's resources."""
        demand = lease.task.demand
        self.gates.take(demand.gates)
        job.take(demand)
        self.jobs.charge(job, lease.charged_s)
        self.backlog.open(lease)
        self._is_allotment_due |= bool(demand.endpoints)
        taken_over = self.ledger.open(lease)
        if taken_over is not None:
            self._give_back_abandoned(taken_over, lease.started_s)

    def _give_back_abandoned(self, lease: Lease, now_s: float) -> None:
        self.nodes.workers[lease.worker].num_abandoned -= 1
        self._give_back(lease, now_s)

    def _give_back(self, lease: Lease, now_s: float) -> None:
        demand = lease.task.demand
        self.nodes.give_back(lease.worker, lease.task, now_s)
        self.gates.give_back(demand.gates)
        self.backlog.close(lease)
        self._is_allotment_due |= bool(demand.endpoints)
        job = self.jobs[lease.task.job]
        job.give_back(demand)
        self._changed_jobs.add(job)
        self._drop_if_idle(job)

    def _learn(self, lease: Lease, seconds: float, now_s: float) -> None:
        """Correct the estimates by what a task really took."""
        stage = lease.task.stage
        node = self.nodes[lease.node]
        if lease.task.demand.threads:
            self.nodes.count_work(lease.node, seconds - lease.charged_s, now_s)
        if self.durations.is_known(stage) and lease.task.demand.threads:
            # How long a task waited for a server says nothing of its node.
            node.slowdown.observe(seconds / self.durations.estimate_s(stage), now_s)
        self.durations.observe(stage, seconds, is_work=lease.task.demand.threads > 0)
        self.jobs[lease.task.job].charge(seconds - lease.charged_s)

    def _drop_if_idle(self, job: Job) -> None:
        if job.is_idle:
            self.jobs.drop(job)
            self.queue.drop_job(job.name)
            self._changed_jobs.discard(job)
