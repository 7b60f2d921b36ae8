"""A state machine that lets everything happen to a dispatcher, in any order, and checks it.

Whatever the dispatcher says is compared with a :class:`TrueState`, which is told
the same events and believes nothing.  Tasks end when their time has come, so the
clock can tell how long one that has a reservation waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from sage_dask.scheduling.dispatcher import Dispatcher
from sage_dask.scheduling.nodes import WorkerInfo
from sage_dask.scheduling.policies import make_policy
from sage_dask.scheduling.policy import Policy
from sage_dask.scheduling.view import Demand, Key, TaskView, demand
from tests.scheduling.checks import DURATIONS_S, PATIENCE_S
from tests.scheduling.requesting import ENOUGH_REQUESTS, URLS, Requesting

JOBS = ("rag/1", "rag/2", "etl/1")

POLICIES: tuple[Policy, ...] = (
    make_policy("fifo"),
    make_policy("round-robin"),
    make_policy("spread"),
    make_policy("spread", memory_weight=0.0, cpu_weight=4.0),
    make_policy("pack"),
    make_policy("pack", target_wait_s=1.0, stay_open_s=0.5),
    make_policy("priority"),
    make_policy("priority", place="pack", ageing=2.0),
    make_policy("priority", place="round-robin", ageing=0.5),
)

DEMANDS = (
    demand(),
    demand(threads=2),
    demand(threads=3),
    demand({"LLM": 1}),
    demand({"LLM": 2}),
    demand({"LLM": 0.1}),
    demand({"GPU": 1}),
    demand({"GPU": 1, "LLM": 1}),
    demand(gates={"chat": 1}),
    demand(gates={"chat": 3}),
    demand(gates={"chat": 1, "db": 1}),
    demand(gates={"db": 2}),
    demand({"GPU": 1}, {"chat": 2}),
    demand(threads=0),
    demand(threads=0, endpoints=URLS[:1]),
    demand(threads=0, endpoints=URLS[1:]),
    demand(threads=0, endpoints=URLS),
    demand(endpoints=URLS[:1]),
    demand({"GPU": 1}, {"chat": 1}, threads=0, endpoints=URLS[:1]),
)

RESOURCES: tuple[dict[str, float], ...] = (
    {},
    {"LLM": 2},
    {"LLM": 0.3},
    {"GPU": 1, "LLM": 1},
    {"GPU": 2},
)

# Enough of everything for any of the demands above.
PLENTY = WorkerInfo("tcp://plenty:1", "plenty", 4, {"LLM": 4, "GPU": 4})
ENOUGH_SLOTS = 3.0

QUOTAS: tuple[dict[str, float], ...] = (
    {},
    {"threads": 3},
    {"chat": 1},
    {"LLM": 1, "db": 2},
    {"threads": 0},
)

_numbers = st.integers(0, 10_000)


class DispatcherMachine(Requesting, RuleBasedStateMachine):
    """Every step is one event, ``dispatch``, and all checks."""

    make: ClassVar[Callable[..., Dispatcher]] = Dispatcher
    """What is tested; planted bugs replace it."""

    def __init__(self) -> None:
        super().__init__()
        self.num_workers = 0

    @initialize(
        policy=st.sampled_from(POLICIES),
        workers=st.integers(0, 3),
        kinds=st.lists(st.sampled_from(DEMANDS), max_size=6),
        number=_numbers,
    )
    def begin(self, policy: Policy, workers: int, kinds: list[Demand], number: int) -> None:
        """Start with a few workers, a gate that has a limit, and tasks of some kinds."""
        self.core = type(self).make(policy, patience_s=PATIENCE_S)
        for index in range(workers):
            self._join(number + index, 1 + (number + index) % 3, RESOURCES[(number + index) % 5])
        self._set_gate("chat", 3.0)
        for index, url in enumerate(URLS):
            self._set_server(url, 2 + 3 * index)
        for index, what in enumerate(kinds):
            job, stage = JOBS[index % 3], sorted(DURATIONS_S)[(number + index) % 3]
            for _ in range(2):
                self._come(what, job, stage)
        self._settle()

    # Workers

    @rule(number=_numbers, threads=st.integers(1, 3), resources=st.sampled_from(RESOURCES))
    def worker_joins(self, number: int, threads: int, resources: dict[str, float]) -> None:
        """A worker joins a new node or one that is there."""
        if len(self.true.workers) < 6:
            self._join(number, threads, resources)
            self._settle(disturbed=True)

    @precondition(lambda self: self.true.workers)
    @rule(number=_numbers)
    def worker_leaves(self, number: int) -> None:
        """A worker leaves or dies, with all that its tasks hold."""
        address = _pick(self.true.workers, number)

        lost = self.core.worker_left(address, self.true.now_s)

        assert sorted(lost) == sorted(self.true.leave(address))
        self._settle(disturbed=True)

    @precondition(lambda self: self.true.workers)
    @rule(number=_numbers, is_running=st.booleans(), everywhere=st.booleans())
    def workers_pause_or_resume(self, number: int, is_running: bool, everywhere: bool) -> None:
        """A worker, or all, stop or go on taking tasks; those that they have go on."""
        chosen = _pick(self.true.workers, number)
        for worker in self.true.workers.values():
            if everywhere or worker.address == chosen:
                worker.is_running = is_running
                self.core.worker_running(worker.address, is_running)
        self._settle(disturbed=True)

    @precondition(lambda self: self.true.workers)
    @rule(number=_numbers, memory=st.sampled_from([None, 0.3, 0.95]))
    def node_reports(self, number: int, memory: float | None) -> None:
        """A node says how much of its memory it uses."""
        node = self.true.node_of(_pick(self.true.workers, number))
        self.core.node_measured(node, memory, 0.5, self.true.now_s)
        self._settle()

    # Tasks

    @rule(
        number=_numbers,
        count=st.integers(1, 6),
        what=st.sampled_from(DEMANDS),
        job=st.sampled_from(JOBS),
        stage=st.sampled_from(sorted(DURATIONS_S)),
        priority=st.sampled_from([0.0, 0.0, 3.0, 10.0]),
    )
    def tasks_come(
        self, number: int, count: int, what: Demand, job: str, stage: str, priority: float
    ) -> None:
        """Some tasks that need the same things are ready; a few may run on one worker only."""
        if number % 5 == 0 and self.true.workers:
            address = _pick(self.true.workers, number)
            what = replace(what, fit=replace(what.fit, workers=frozenset({address})))
        for _ in range(count):
            self._come(what, job, stage, priority, depth=number % 3)
        self._settle()

    @precondition(lambda self: self.true.running)
    @rule(number=_numbers, fails=st.booleans())
    def task_ends_early(self, number: int, fails: bool) -> None:
        """A running task is done, or fails, before its time."""
        self._end(_pick(self.true.running, number), fails=fails)
        self._settle()

    @precondition(lambda self: self.true.waiting)
    @rule(number=_numbers)
    def waiting_task_is_cancelled(self, number: int) -> None:
        """Nobody wants a waiting task any more."""
        key = _pick(self.true.waiting, number)
        self.true.withdrawn[key] = self.true.waiting.pop(key)
        self.core.task_withdrawn(key, self.true.now_s)
        self._settle()

    @precondition(lambda self: self.true.running)
    @rule(number=_numbers)
    def running_task_is_cancelled(self, number: int) -> None:
        """Nobody wants a running task any more; its worker goes on with it."""
        key = _pick(self.true.running, number)
        self.true.abandon(key)
        self.core.task_abandoned(key, self.true.now_s)
        self._settle()

    @precondition(lambda self: self.true.lost or self.true.withdrawn)
    @rule(number=_numbers)
    def task_comes_back(self, number: int) -> None:
        """A task that was lost or cancelled is wanted again, under the same key."""
        pile = self.true.lost or self.true.withdrawn
        task = pile.pop(_pick(pile, number))
        self._ready(replace(task, ready_s=self.true.now_s))
        self._settle()

    @precondition(lambda self: self.true.waiting)
    @rule(number=_numbers)
    def task_is_found_running(self, number: int) -> None:
        """Somebody else has started a waiting task, whatever gates and quotas say."""
        task = self.true.waiting[_pick(self.true.waiting, number)]
        able = [w for w in self.true.workers.values() if self.true.has_room(w, task.demand)]
        if able:
            worker = able[number % len(able)].address
            self.true.start(task.key, worker, DURATIONS_S[task.stage])
            self.core.task_running(task, worker, self.true.now_s)
        self._settle(disturbed=True)

    @precondition(lambda self: self.true.waiting)
    @rule(number=_numbers, priority=st.sampled_from([1.0, 5.0, 20.0]))
    def task_is_raised(self, number: int, priority: float) -> None:
        """Somebody more urgent waits for the task's result."""
        key = _pick(self.true.waiting, number)
        task = self.true.waiting[key]
        self.true.waiting[key] = replace(task, priority=max(priority, task.priority))
        self.core.task_raised(key, priority)
        self._settle()

    @rule(number=_numbers)
    def events_repeat(self, number: int) -> None:
        """Events come twice, too late, or for what was never there; none changes anything."""
        core, true, now_s = self.core, self.true, self.true.now_s
        for key in ("nobody", *sorted(true.ended)[:3]):
            core.task_ended(key, now_s, seconds=1.0)
            core.task_abandoned(key, now_s)
            core.task_withdrawn(key, now_s)
            core.abandoned_ended(key, "tcp://nowhere:1", now_s)
        if true.waiting:
            key = _pick(true.waiting, number)
            core.task_ready(true.waiting[key], now_s)
            core.task_abandoned(key, now_s)
            core.task_ended(key, now_s)
        if true.running:
            key = _pick(true.running, number)
            core.task_withdrawn(key, now_s)
            core.task_ready(true.running[key].task, now_s)
            core.abandoned_ended(key, true.running[key].worker, now_s)
        assert core.worker_left("tcp://nowhere:1", now_s) == []
        core.worker_running("tcp://nowhere:1", False)
        core.node_measured("nowhere", 0.5, 0.5, now_s)
        self._settle()

    # Settings

    @rule(
        name=st.sampled_from(["chat", "db"]), limit=st.sampled_from([None, 0.0, 1.0, 2.0, 3.0, 4.0])
    )
    def gate_is_set(self, name: str, limit: float | None) -> None:
        """A gate opens, closes, or shrinks below what is held."""
        self._set_gate(name, limit)
        self._settle(disturbed=True)

    @rule(policy=st.sampled_from(POLICIES))
    def policy_is_set(self, policy: Policy) -> None:
        """Another policy decides from now on."""
        self.core.set_policy(policy)
        self._settle(disturbed=True)

    @rule(
        job=st.sampled_from([*JOBS, "rag", "etl"]),
        weight=st.sampled_from([0.5, 1.0, 4.0]),
        quota=st.sampled_from(QUOTAS),
    )
    def share_is_set(self, job: str, weight: float, quota: dict[str, float]) -> None:
        """An operator sets the share and the quota of a job or of a pipeline."""
        self.true.quotas[job] = quota
        self.core.set_weight(job, weight)
        self.core.set_quota(job, quota)
        self._settle(disturbed=True)

    @rule(job=st.sampled_from(JOBS), quota=st.sampled_from(QUOTAS))
    def share_is_declared(self, job: str, quota: dict[str, float]) -> None:
        """A job says, sooner or later, what share it asks for."""
        self.true.declared[job] = quota
        self.core.job_arrived(job, 2.0, quota)
        self._settle(disturbed=True)

    @rule(job=st.sampled_from(JOBS), is_paused=st.booleans())
    def job_pauses_or_goes_on(self, job: str, is_paused: bool) -> None:
        """An operator holds a job back, or lets it go on."""
        (self.true.paused.add if is_paused else self.true.paused.discard)(job)
        self.core.set_paused(job, is_paused)
        self._settle(disturbed=True)

    # Time

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0]))
    def time_passes(self, seconds: float) -> None:
        """What is due ends, what is to be asked again is asked, and somebody looks after it all."""
        until_s = self.true.now_s + seconds
        while (next_s := self._next_s()) is not None and next_s <= until_s:
            self._advance(next_s)
        self.true.now_s = until_s
        for notice in self.core.tick(until_s):
            assert notice.kind == "unplaceable"
            assert any(self.true.is_worth_a_word(task) for task in self.true.waiting.values())
        self._settle()

    @rule()
    def much_time_passes(self) -> None:
        """Long enough for a reservation to be made and served."""
        self.time_passes(3.0)

    def teardown(self) -> None:
        """Everything drains once there is a worker that can take it and time enough."""
        if not hasattr(self, "core"):
            return
        self._open_everything()
        self.answer_everything()
        most = 4 * (self.num_tasks + 1)
        for _ in range(most):
            if not self.true.waiting and not self.true.running and not self.true.abandoned:
                break
            next_s = self._next_s()
            assert next_s is not None, f"deadlock: {sorted(self.true.waiting)} wait for nothing"
            self._advance(next_s)
        assert not self.true.waiting, f"livelock: {sorted(self.true.waiting)} still wait"
        self.check_nothing_is_left()
        self.check_no_slots_are_left()

    # How events reach both

    def _join(self, number: int, threads: int, resources: dict[str, float]) -> None:
        self.num_workers += 1
        info = WorkerInfo(
            f"tcp://worker:{self.num_workers}", f"node-{number % 3}", threads, resources
        )
        self.true.join(info)
        self.core.worker_joined(info, self.true.now_s)

    def _come(
        self, what: Demand, job: str, stage: str, priority: float = 0.0, depth: int = 0
    ) -> None:
        self.num_tasks += 1
        key, now_s = f"task-{self.num_tasks}", self.true.now_s
        rank = (depth, self.num_tasks)
        requests = 1 + self.num_tasks % 6 if what.endpoints else 0
        about = {"arrived_s": now_s, "ready_s": now_s, "rank": rank, "requests": requests}
        self._ready(TaskView(key, job, stage, what, priority, **about))

    def _ready(self, task: TaskView) -> None:
        if task.key not in self.true.waiting:
            self.true.waiting_since[task.key] = self.true.now_s
        self.true.waiting[task.key] = task
        self.core.task_ready(task, self.true.now_s)

    def _end(self, key: Key, *, fails: bool = False) -> None:
        stage = self.true.running[key].task.stage
        self.true.end(key)
        if fails:
            self.core.task_ended(key, self.true.now_s, how="failed")
        else:
            self.core.task_ended(key, self.true.now_s, seconds=DURATIONS_S[stage])

    def _set_gate(self, name: str, limit: float | None) -> None:
        self.true.gates[name] = limit
        self.core.set_gate(name, limit)

    def _next_s(self) -> float | None:
        """Return when something happens next by itself."""
        times = [hold.ends_s for hold in self.true.holds()]
        if self.core.next_wake_s is not None:
            times.append(self.core.next_wake_s)
        if self.oldest is not None:
            times.append(self.oldest_since_s + PATIENCE_S)
        return min(times, default=None)

    def _advance(self, now_s: float) -> None:
        """End what is due at that time."""
        self.true.now_s = now_s
        for key in [key for key, hold in self.true.running.items() if hold.ends_s <= now_s]:
            self._end(key)
        due = [where for where, hold in self.true.abandoned.items() if hold.ends_s <= now_s]
        for key, worker in due:
            self.true.end_abandoned(key, worker)
            self.core.abandoned_ended(key, worker, now_s)
        self._settle()

    def _settle(self, *, disturbed: bool = False) -> None:
        """Dispatch, follow the instructions one by one, and check all that must hold."""
        if disturbed:
            self.note_disturbance()
        for start in self.core.dispatch(self.true.now_s):
            self.follow(start)
        self.allot()
        self.check()
        self._check_requests()

    # What is left to run in the end

    def _open_everything(self) -> None:
        """Leave nothing that could keep a task from running once."""
        true, core = self.true, self.core
        true.join(PLENTY)
        core.worker_joined(PLENTY, true.now_s)
        pinned = {a for t in self._all_that_come() for a in t.demand.fit.workers or ()}
        for index, address in enumerate(sorted(pinned)):
            if address in true.workers:
                core.worker_left(address, true.now_s)
                true.leave(address)
                self.senders.pop(address, None)
            # Its connection is closed, so nothing that it said before comes after its return.
            self.stale = [(who, report) for who, report in self.stale if who != address]
            info = replace(PLENTY, address=address, node=f"plenty-{index}")
            true.join(info)
            core.worker_joined(info, true.now_s)
        for worker in true.workers.values():
            worker.is_running = True
            core.worker_running(worker.address, True)
        for name in true.gates:
            self._set_gate(name, ENOUGH_SLOTS)
        for url in URLS:
            self._set_server(url, ENOUGH_REQUESTS)
        true.paused.clear()
        for job in JOBS:
            true.quotas[job] = {}
            core.set_quota(job, {})
            core.set_paused(job, False)
        for task in list(true.lost.values()):
            del true.lost[task.key]
            self._ready(replace(task, ready_s=true.now_s))
        self._settle(disturbed=True)

    def _all_that_come(self) -> list[TaskView]:
        running = [hold.task for hold in self.true.running.values()]
        return [*self.true.waiting.values(), *self.true.lost.values(), *running]


def _pick(choices: Any, number: int) -> Any:
    """Return one of the keys, in an order that is the same in every run."""
    ordered = sorted(choices)
    return ordered[number % len(ordered)]
