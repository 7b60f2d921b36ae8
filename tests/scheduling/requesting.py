"""The part of the state machine that sends requests: workers, servers, and late messages.

Workers hear of their slots when a message reaches them, go by what they have heard,
and say how their requests are doing in reports that arrive later still, when tasks
may have ended, or run elsewhere.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from sage_dask.endpoint.report import RequestReport
from sage_dask.scheduling.servers import Allotment
from sage_dask.scheduling.view import Key
from tests.scheduling.checks import Checks
from tests.scheduling.model import Hold

URLS = ("http://gpu-0:8000/v1", "http://gpu-1:8000/v1")
ENOUGH_REQUESTS = 4

# What may happen to one worker's requests, in any order.
STEPS = ("hear slots", "send", "answer one", "answer all", "report", "report down", "reported")

_numbers = st.integers(0, 10_000)


@dataclass
class Sender:
    """One worker: the slots that it heard of, what it has under way, messages to and from it."""

    slots: Allotment = field(default_factory=Allotment)
    in_flight: Counter[tuple[str, str, Key]] = field(default_factory=Counter)
    """By server, job and task."""
    inbox: deque[Allotment] = field(default_factory=deque)
    outbox: deque[RequestReport] = field(default_factory=deque)

    @property
    def told(self) -> Allotment:
        """What was sent to it last."""
        return self.inbox[-1] if self.inbox else self.slots

    def under_way(self) -> Counter[tuple[str, str]]:
        """Return how many requests are under way, by server and job."""
        total: Counter[tuple[str, str]] = Counter()
        for (endpoint, job, _), number in self.in_flight.items():
            total[endpoint, job] += number
        return +total


class Requesting(Checks):
    """Rules about requests, and what must hold of them."""

    def __init__(self) -> None:
        super().__init__()
        self.senders: dict[str, Sender] = {}
        self.bounds: dict[str, int] = {}
        """What may be claimed of each server: its limit, or what was when that fell."""
        self.stale: list[tuple[str, RequestReport]] = []
        """Reports of workers that are gone, under way still."""

    def _settle(self, *, disturbed: bool = False) -> None:
        raise NotImplementedError

    @precondition(lambda self: self.true.workers)
    @rule(number=_numbers, steps=st.lists(st.sampled_from(STEPS), min_size=1, max_size=6))
    def requests_go_on(self, number: int, steps: list[str]) -> None:
        """A worker hears of slots, sends, gets answers and says so, each sooner or later."""
        address = sorted(self.true.workers)[number % len(self.true.workers)]
        for step in steps:
            self._step(address, step, number)

    @rule(are_answered=st.booleans())
    def messages_arrive(self, are_answered: bool) -> None:
        """Everybody is told everything, sends what it may, and gets all its answers or none."""
        while self.stale:
            self.core.requests_reported(*self.stale.pop(), self.true.now_s)
        self._settle()
        for address in sorted(self.true.workers):
            self._exchange(address, are_answered)

    @rule(url=st.sampled_from(URLS), limit=st.sampled_from([0, 1, 2, 3, 8]))
    def server_limit_is_set(self, url: str, limit: int) -> None:
        """A server takes more requests or fewer from now on, or none."""
        self._set_server(url, limit)
        self._settle(disturbed=True)

    # What happens

    def _set_server(self, url: str, limit: int) -> None:
        self.true.limits[url] = limit
        self.bounds.setdefault(url, limit)
        self.core.set_gate(url, limit)

    def _exchange(self, address: str, is_answered: bool) -> None:
        for step in ("report", "reported", "hear slots", "send"):
            self._step(address, step, 0)
        if is_answered:
            self._step(address, "answer all", 0)
            self._step(address, "report", 0)
        while self.senders[address].outbox:
            self._step(address, "reported", 0)

    def _step(self, address: str, step: str, number: int) -> None:
        sender = self.senders.setdefault(address, Sender())
        if step == "hear slots":
            while sender.inbox:
                sender.slots = sender.inbox.popleft()
                if number % 2:
                    break
        elif step == "send":
            self._send(address, sender)
        elif step.startswith("answer"):
            self._answer(address, sender, 1 if step == "answer one" else 1000)
        elif step.startswith("report "):
            self._report(address, sender, {URLS[number % 2]: 1.0})
        elif step == "report":
            self._report(address, sender, {})
        elif sender.outbox:
            self._reported(address, sender.outbox.popleft())
        self._check_requests()

    def _send(self, address: str, sender: Sender) -> None:
        """Have each task send what it has, as far as its job has slots."""
        for hold in self._holds_on(address):
            job, key = hold.task.job, hold.task.key
            for endpoint in hold.task.demand.endpoints:
                sent = sum(n for (_, _, of), n in sender.in_flight.items() if of == key)
                allowed = sender.slots.slots.get(endpoint, {}).get(job, 0)
                free = allowed - sender.under_way()[endpoint, job]
                sender.in_flight[endpoint, job, key] += max(0, min(free, hold.left - sent))

    def _answer(self, address: str, sender: Sender, most: int) -> None:
        for hold in self._holds_on(address):
            for endpoint in hold.task.demand.endpoints:
                name = endpoint, hold.task.job, hold.task.key
                answered = min(sender.in_flight[name], most)
                sender.in_flight[name] -= answered
                hold.left -= answered
                most -= answered

    def _report(self, address: str, sender: Sender, down_s: dict[str, float]) -> None:
        # Of tasks that have ended it said so before; of those that others have now, it does here.
        left = {key: 0 for _, _, key in sender.in_flight}
        left |= {hold.task.key: hold.left for hold in self._holds_on(address)}
        version = sender.slots.version
        under_way = dict(sender.under_way())
        report = RequestReport(left, under_way, down_s=down_s, version=version)
        sender.outbox.append(report)

    def _reported(self, address: str, report: RequestReport) -> None:
        for key, number in report.outstanding.items():
            hold = self.true.find(key, address)
            if hold is not None and hold.task.demand.endpoints:
                hold.told = number
        is_news = frozenset(report.down_s) != self.true.down.get(address, frozenset())
        self.true.down[address] = frozenset(report.down_s)
        self.core.requests_reported(address, report, self.true.now_s)
        self._settle(disturbed=is_news)

    def _holds_on(self, address: str) -> list[Hold]:
        return [h for h in self.true.holds() if h.worker == address and h.task.demand.endpoints]

    def allot(self) -> None:
        """Send workers what is allotted to them, and drop what nobody is at any more."""
        allotted = self.core.allotments(self.true.now_s)
        assert allotted.keys() <= self.true.workers.keys(), "slots for a worker that is gone"
        for address, allotment in allotted.items():
            self.senders.setdefault(address, Sender()).inbox.append(allotment)
        for address in self.senders.keys() - self.true.workers.keys():
            self._report(address, gone := self.senders.pop(address), {})
            self.stale += [(address, report) for report in gone.outbox]
        for address, sender in self.senders.items():
            keys = {hold.task.key for hold in self._holds_on(address)}
            sender.in_flight = Counter({n: i for n, i in sender.in_flight.items() if n[2] in keys})
        for url, limit in self.true.limits.items():
            told = [sender.told.slots.get(url, {}) for sender in self.senders.values()]
            assert sum(sum(slots.values()) for slots in told) <= limit
            if any(url in want.endpoints for want in self.core.backlog.wants()):
                assert self.core.servers.claimed(url) >= limit, f"{url} is wanted, and has slots"

    # What must hold

    def _check_requests(self) -> None:
        """Requests under way stay below the limit, and nobody who is gone holds any."""
        servers = self.core.servers
        for url, limit in self.true.limits.items():
            claimed = servers.claimed(url)
            self.bounds[url] = max(limit, min(self.bounds[url], claimed))
            under_way = sum(
                number
                for sender in self.senders.values()
                for (endpoint, _), number in sender.under_way().items()
                if endpoint == url
            )
            counts = f"{url}: {under_way} under way, {claimed} claimed, limit {limit}"
            assert under_way <= claimed <= self.bounds[url], counts
        askers = {(hold.worker, hold.task.job) for hold in self.true.holds() if hold.told}
        assert {(want.worker, want.job) for want in self.core.backlog.wants()} == askers

    def answer_everything(self) -> None:
        """See all requests answered: none of them waits for ever while servers take any."""
        for _ in range(20 + 2 * self.num_tasks):
            if not any(hold.left for hold in self.true.holds()):
                break
            self.messages_arrive(True)
        stuck = [hold for hold in self.true.holds() if hold.left]
        assert not stuck, f"their requests wait for ever: {stuck}"

    def check_no_slots_are_left(self) -> None:
        """Once all is over and told, no worker has slots and no request is counted."""
        for _ in range(3):
            self.messages_arrive(True)
        assert not list(self.core.backlog.wants())
        assert all(self.core.servers.claimed(url) == 0 for url in URLS)
