"""Random histories of servers and workers whose messages take their time."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sage_dask.endpoint.limit import RequestLimit
from sage_dask.endpoint.report import RequestReport
from sage_dask.scheduling.allotment import allot
from sage_dask.scheduling.servers import Allotment, Servers, Share, Want

A, B = "a", "b"
WORKERS = st.sampled_from("xyz")
JOBS = st.sampled_from(["rag", "eval"])
REPLICAS = st.sampled_from([(A,), (A,), (B,), (A, B)])
ENDPOINTS = st.sampled_from([A, B])
SHARES = {"rag": Share(2.0), "eval": Share(quota={B: 3.0})}


@dataclass
class Worker:
    """A worker that goes by the last allotment that reached it."""

    slots: Allotment = field(default_factory=Allotment)
    in_flight: Counter = field(default_factory=Counter)
    inbox: deque = field(default_factory=deque)
    outbox: deque = field(default_factory=deque)

    def start(self, endpoint, job):
        """Send a request, if there is a slot for it."""
        if self.in_flight[endpoint, job] < self.slots.slots.get(endpoint, {}).get(job, 0):
            self.in_flight[endpoint, job] += 1

    def report(self):
        """Say what is under way."""
        self.outbox.append(
            RequestReport(in_flight=dict(self.in_flight), version=self.slots.version)
        )


class Traffic(RuleBasedStateMachine):
    """Two servers, three workers that come and go, two jobs; messages keep their order."""

    def __init__(self):
        super().__init__()
        self.servers = Servers()
        self.limits = {A: 8, B: 5}
        for endpoint, limit in self.limits.items():
            self.servers.declare(endpoint, RequestLimit(limit))
        self.bounds = dict(self.limits)
        self.workers = {}
        self.wants = {}

    @initialize(askers=st.lists(st.tuples(WORKERS, JOBS, REPLICAS), min_size=1, max_size=6))
    def begin(self, askers):
        """There are some jobs."""
        for asker in askers:
            self.ask(*asker)
        self.divide()

    @rule(worker=WORKERS, job=JOBS, endpoints=REPLICAS)
    def ask(self, worker, job, endpoints):
        """A job has requests on a worker, which may be new."""
        self.workers.setdefault(worker, Worker())
        self.wants[worker, job, endpoints] = 10

    @rule(worker=WORKERS, job=JOBS, number=st.integers(0, 12))
    def change(self, worker, job, number):
        """A job has more or fewer requests."""
        for asker in [asker for asker in self.wants if asker[:2] == (worker, job)]:
            self.wants[asker] = number

    @rule(worker=WORKERS, job=JOBS)
    def end_job(self, worker, job):
        """A job has none on a worker any more."""
        self.wants = {asker: n for asker, n in self.wants.items() if asker[:2] != (worker, job)}

    @rule(endpoint=ENDPOINTS, limit=st.integers(0, 12))
    def limit(self, endpoint, limit):
        """A limit changes."""
        self.servers.set_limit(endpoint, limit)
        self.limits[endpoint] = limit

    @rule()
    def divide(self):
        """The slots are divided anew."""
        wants = [Want(*asker, number) for asker, number in self.wants.items()]
        for name, allotment in self.servers.allot(wants, SHARES, 0.0).items():
            if name in self.workers:
                self.workers[name].inbox.append(allotment)

    @rule(worker=WORKERS)
    def deliver(self, worker):
        """An allotment reaches its worker."""
        if worker in self.workers and self.workers[worker].inbox:
            self.workers[worker].slots = self.workers[worker].inbox.popleft()

    @rule(worker=WORKERS)
    def report(self, worker):
        """A worker says what it has under way."""
        if worker in self.workers:
            self.workers[worker].report()

    @rule(worker=WORKERS)
    def hear(self, worker):
        """A report reaches the servers, and the slots are divided anew."""
        if worker in self.workers and self.workers[worker].outbox:
            self.servers.observe_report(worker, self.workers[worker].outbox.popleft(), 0.0)
            self.divide()

    @rule(worker=WORKERS)
    def exchange(self, worker):
        """All messages from and to a worker arrive."""
        while worker in self.workers and self.workers[worker].inbox:
            self.deliver(worker)
        self.report(worker)
        while worker in self.workers and self.workers[worker].outbox:
            self.hear(worker)

    @rule(worker=WORKERS)
    def fill(self, worker):
        """A worker sends as many requests as it may."""
        if worker in self.workers:
            for endpoint, jobs in self.workers[worker].slots.slots.items():
                for job, number in jobs.items():
                    for _ in range(number):
                        self.workers[worker].start(endpoint, job)

    @rule(worker=WORKERS, number=st.integers(1, 5))
    def answer(self, worker, number):
        """Some requests of each job are answered."""
        if worker in self.workers:
            in_flight = self.workers[worker].in_flight
            for pair in in_flight:
                in_flight[pair] = max(in_flight[pair] - number, 0)

    @rule(worker=WORKERS)
    def lose(self, worker):
        """A worker is lost with its requests and messages."""
        self.workers.pop(worker, None)
        self.wants = {asker: n for asker, n in self.wants.items() if asker[0] != worker}
        self.servers.worker_left(worker, 0.0)

    @invariant()
    def the_limit_holds(self):
        """Requests under way never exceed the limit, but for what was there when it fell."""
        for endpoint, limit in self.limits.items():
            claimed = self.servers.claimed(endpoint)
            self.bounds[endpoint] = max(limit, min(self.bounds[endpoint], claimed))
            real = sum(
                number
                for worker in self.workers.values()
                for (where, _), number in worker.in_flight.items()
                if where == endpoint
            )
            assert real <= claimed <= self.bounds[endpoint]

    def teardown(self):
        """When nothing changes any more, the slots become what a first allotment would give."""
        for _ in range(6):
            self.divide()
            for worker in self.workers.values():
                if worker.inbox:
                    worker.slots = worker.inbox[-1]
                    worker.inbox.clear()
                worker.in_flight.clear()
                worker.outbox.clear()
                worker.report()
            for name in self.workers:
                self.hear(name)
            self.the_limit_holds()
        if all(len(endpoints) == 1 for _, _, endpoints in self.wants):
            for endpoint in self.limits:
                self._is_fair(endpoint)

    def _is_fair(self, endpoint):
        wants = [Want(*asker, n) for asker, n in self.wants.items() if asker[2] == (endpoint,)]
        told = {
            (name, job): number
            for name, worker in self.workers.items()
            for job, number in worker.slots.slots.get(endpoint, {}).items()
        }
        limit = self.limits[endpoint]
        goal = allot(limit, wants, SHARES, endpoint=endpoint, before=told)
        assert {pair: n for pair, n in goal.items() if n} == told


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
