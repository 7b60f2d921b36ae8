"""The state machine is worth what it catches: each defect planted here must be found.

Every class is the dispatcher with one thing wrong with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from sage_dask.errors import InvariantError
from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.gate import Gates
from sage_dask.scheduling.jobs import Job
from sage_dask.scheduling.load_aware import Pack, Spread
from sage_dask.scheduling.policies import make_policy
from sage_dask.scheduling.policy import Wait
from sage_dask.scheduling.priority import Priority
from tests.scheduling.closed_loop import LONGEST_S, PATIENCE_S, wait_of_big_s
from tests.scheduling.machine import DispatcherMachine

pytestmark = pytest.mark.slow

# No more than the machine's own test runs.
_BUDGET = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


class LeaksOnWorkerLoss(Dispatcher):
    """Gate slots of a lost worker's tasks do not come back."""

    def worker_left(self, address, now_s):
        for lease in self.ledger:
            if lease.worker == address:
                self.gates.take(lease.task.demand.gates)
        return super().worker_left(address, now_s)


class LosesOnWorkerLoss(Dispatcher):
    """One of a lost worker's tasks is not told to be lost."""

    def worker_left(self, address, now_s):
        return super().worker_left(address, now_s)[1:]


class LeaksOnAbandon(Dispatcher):
    """A cancelled task's lease is forgotten, with all that it holds."""

    def abandoned_ended(self, key, worker, now_s):
        self.ledger.close_abandoned(key, worker)


class FreesOnAbandon(Dispatcher):
    """A cancelled task gives back what it holds though it still runs."""

    def task_abandoned(self, key, now_s):
        self.task_ended(key, now_s)


class KeepsSlotsOfFailed(Dispatcher):
    """A task that fails does not give its gate slots back."""

    def task_ended(self, key, now_s, *, seconds=None, how="done"):
        lease = self.ledger.running.get(key)
        if lease is not None and how == "failed":
            self.gates.take(lease.task.demand.gates)
        super().task_ended(key, now_s, seconds=seconds, how=how)


class FreesTwice(Dispatcher):
    """The end of an abandoned task gives its gate slots back twice."""

    def abandoned_ended(self, key, worker, now_s):
        lease = self.ledger.abandoned.get((key, worker))
        if lease is not None:
            self.gates.give_back(lease.task.demand.gates)
        super().abandoned_ended(key, worker, now_s)


class StartsOne(Dispatcher):
    """One start at a time, though there is room for more."""

    def _decide_all(self, starts, now_s):
        first = self._first_line
        self._first_line = lambda is_eligible: None if starts else first(is_eligible)
        try:
            super()._decide_all(starts, now_s)
        finally:
            self._first_line = first


class StartsTwice(Dispatcher):
    """The last instruction is given once more."""

    def dispatch(self, now_s):
        starts = super().dispatch(now_s)
        return starts + starts[-1:]


class GenerousGates(Gates):
    """Gates with one slot more than they say."""

    def have_room(self, slots):
        return all(self[name].has_room(number - 1) for name, number in slots)


class OverbooksGates(Dispatcher):
    """Gates let one too many through."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gates = GenerousGates()


class OverbooksWorkers(Dispatcher):
    """A worker takes one more than it has threads, and counts as if it had it."""

    def worker_joined(self, info, now_s):
        super().worker_joined(info, now_s)
        worker = self.nodes.workers[info.address]
        worker.free["threads"] += 1
        worker.capacity["threads"] += 1


class LosesOnPolicySwitch(Dispatcher):
    """A task that waits is gone when the policy changes."""

    def set_policy(self, policy):
        waiting = [entry.task.key for entry in self.queue.entries()]
        if len(waiting) > 1:
            self.task_withdrawn(waiting[-1], 0.0)
        super().set_policy(policy)


class KeepsOldRanks(Dispatcher):
    """Keys of the policy before are compared with those of the new one."""

    def set_policy(self, policy):
        self.nodes.forget_ranks = self.nodes.change_all
        super().set_policy(policy)


class ForgetsQuotaOfAbandoned(Dispatcher):
    """What a cancelled task holds does not count for its job's quota."""

    def task_abandoned(self, key, now_s):
        lease = self.ledger.running.get(key)
        super().task_abandoned(key, now_s)
        if lease is not None:
            job = self.jobs[lease.task.job]
            for name, amount in lease.task.demand.amounts:
                job.held[name] -= amount
            self.queue.reorder(job)


class CountsHalfTheQuota(Dispatcher):
    """Gate slots do not count for quotas."""

    def _start(self, entry, worker, reason, starts, now_s):
        super()._start(entry, worker, reason, starts, now_s)
        job: Job = entry.lane.job
        for name, _ in entry.task.demand.gates:
            job.held[name] = 0.0
        self.queue.reorder(job)

    def _give_back(self, lease, now_s):
        job = self.jobs[lease.task.job]
        for name, slots in lease.task.demand.gates:
            job.held[name] = slots
        super()._give_back(lease, now_s)


class IgnoresPauses(Dispatcher):
    """A paused worker is given tasks."""

    def worker_running(self, address, is_running):
        super().worker_running(address, True)


class ForgetsToWake(Dispatcher):
    """Nobody is told when to ask again."""

    next_wake_s = None


class WakesAtOnce(Dispatcher):
    """Says to be asked again at a time that is over."""

    @property
    def next_wake_s(self):
        at_s = super().next_wake_s
        return None if at_s is None else 0.0


class NeverReserves(Dispatcher):
    """No place is ever kept for the first task."""

    def __init__(self, policy, *, patience_s):
        super().__init__(policy, patience_s=1e9)


class ReservesForPaused(Dispatcher):
    """A place is kept for a task whose only workers are paused."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.nodes.have_running = lambda pool: True


class KeepsForNobody(Dispatcher):
    """What was kept on a worker stays kept after the task has started."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reservations._release = lambda: setattr(self._reservations, "_worker", None)


class BelievesDuplicates(Dispatcher):
    """A task that runs is queued again when it is said to be ready once more."""

    def task_ready(self, task, now_s):
        if task.key not in self.queue:
            self._push(task)


@dataclass(frozen=True)
class Hesitant(Spread):
    """Waits whenever an even number of tasks waits."""

    def place(self, task, cluster):
        if cluster.num_queued % 2 == 0:
            return Wait("an even number", until_s=cluster.now_s + 1)
        return super().place(task, cluster)


class IsNotConserving(Dispatcher):
    """The policy leaves tasks waiting though there is room."""

    def set_policy(self, policy):
        super().set_policy(Hesitant())


@dataclass(frozen=True)
class Unpacked(Pack):
    """Goes by the name alone, so a closed node may come before one that is open."""

    def rank(self, node):
        return -node.in_flight if node.idle_since_s is not None else node.in_flight


class OpensTooMany(Dispatcher):
    """``pack`` opens nodes that nobody needs."""

    def set_policy(self, policy):
        super().set_policy(Unpacked())


# Requests to model servers


class LosesTrackOfRequests(Dispatcher):
    """The requests of a task that has ended count on."""

    def _give_back(self, lease, now_s):
        self.backlog.close = lambda lease: None
        super()._give_back(lease, now_s)


class ForgetsRequestsOfAbandoned(Dispatcher):
    """The requests of a cancelled task do not count though it goes on sending them."""

    def task_abandoned(self, key, now_s):
        super().task_abandoned(key, now_s)
        for lease in self.ledger.abandoned.values():
            self.backlog.close(lease)


class IgnoresReportsOfAbandoned(Dispatcher):
    """What a worker says of a cancelled task is not heard."""

    def requests_reported(self, worker, report, now_s):
        left = {key: n for key, n in report.outstanding.items() if key in self.ledger.running}
        super().requests_reported(worker, replace(report, outstanding=left), now_s)


class BelievesAnyWorker(Dispatcher):
    """A late report changes the count of a task that runs elsewhere by now."""

    def requests_reported(self, worker, report, now_s):
        for key, number in report.outstanding.items():
            if key in self.ledger.running:
                self.backlog.correct(self.ledger.running[key], number)
        super().requests_reported(worker, report, now_s)


class FloodsServers(Dispatcher):
    """Tasks start whatever is outstanding."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.backlog.has_room = lambda endpoints: True


class LeavesServersIdle(Dispatcher):
    """Tasks start only when nothing is outstanding."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.backlog.has_room = lambda endpoints: not self.backlog.outstanding(endpoints)


class StarvesOneReplica(Dispatcher):
    """Requests that any of two servers may take count for each of them in full."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.backlog._share = lambda some, servers: float(bool({*some} & {*servers}))


class RunsAheadOfClosed(Dispatcher):
    """A server that is closed goes on having a runway."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.backlog._wanted_by = lambda e: 1.5 * self.servers.capacity((e,)) + 1


class KeepsSlotsOfTheGone(Dispatcher):
    """The slots of a worker that has left are given to nobody."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.servers.worker_left = lambda worker, now_s: None


class ForgetsToLower(Dispatcher):
    """Workers are not told that a limit has changed."""

    def set_gate(self, name, limit):
        is_due = self._is_allotment_due
        super().set_gate(name, limit)
        self._is_allotment_due = is_due


class ForgetsToDivide(Dispatcher):
    """Slots are not divided anew when tasks start and end."""

    def _open(self, lease, job):
        is_due = self._is_allotment_due
        super()._open(lease, job)
        self._is_allotment_due = is_due


class GivesSlotsTwice(Dispatcher):
    """A slot that was taken back is given to another before its worker knows."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        told = self.servers._workers
        self.servers.claimed = lambda endpoint: sum(
            sum(worker.told(endpoint).values()) for worker in told.values()
        )


class TakesAnyReportForAnAnswer(Dispatcher):
    """Whatever a worker says, it is thought to know the latest allotment."""

    def requests_reported(self, worker, report, now_s):
        super().requests_reported(worker, replace(report, version=1_000_000), now_s)


class NeverBelievesAnAnswer(Dispatcher):
    """No report is thought to know the latest allotment, so nothing ever comes free."""

    def requests_reported(self, worker, report, now_s):
        super().requests_reported(worker, replace(report, version=0), now_s)


PLANTED: tuple[type[Dispatcher], ...] = (
    LeaksOnWorkerLoss,
    LosesOnWorkerLoss,
    LeaksOnAbandon,
    FreesOnAbandon,
    KeepsSlotsOfFailed,
    FreesTwice,
    StartsOne,
    StartsTwice,
    OverbooksGates,
    OverbooksWorkers,
    LosesOnPolicySwitch,
    KeepsOldRanks,
    ForgetsQuotaOfAbandoned,
    CountsHalfTheQuota,
    IgnoresPauses,
    ForgetsToWake,
    WakesAtOnce,
    NeverReserves,
    ReservesForPaused,
    KeepsForNobody,
    BelievesDuplicates,
    IsNotConserving,
    OpensTooMany,
    LosesTrackOfRequests,
    ForgetsRequestsOfAbandoned,
    IgnoresReportsOfAbandoned,
    BelievesAnyWorker,
    FloodsServers,
    LeavesServersIdle,
    StarvesOneReplica,
    RunsAheadOfClosed,
    KeepsSlotsOfTheGone,
    ForgetsToLower,
    ForgetsToDivide,
    GivesSlotsTwice,
    TakesAnyReportForAnAnswer,
    NeverBelievesAnAnswer,
)


@pytest.mark.parametrize("planted", PLANTED)
def test_the_machine_finds(planted):
    """A dispatcher with this defect does not pass."""

    class Machine(DispatcherMachine):
        make: ClassVar = planted

    with pytest.raises((AssertionError, InvariantError, KeyError, TypeError)):
        run_state_machine_as_test(Machine, settings=_BUDGET)


def test_a_priority_that_does_not_age_is_found():
    """Its lowest class waits far longer than ageing promises."""
    policy = make_policy("priority", ageing=0.5)
    assert isinstance(policy, Priority)
    object.__setattr__(policy, "ageing", 0.0)

    waited_s = wait_of_big_s(policy, stream_priority=10.0, patient_for_s=60.0)

    assert waited_s > (10 + 1) / 0.5 + PATIENCE_S + 3 * LONGEST_S


def test_a_place_that_is_never_kept_is_found():
    """A task that needs all slots waits for longer than the bound."""
    waited_s = wait_of_big_s(make_policy("spread"), NeverReserves, patient_for_s=60.0)

    assert waited_s > PATIENCE_S + 3 * LONGEST_S
