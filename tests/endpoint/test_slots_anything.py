"""Anything may happen to the slots of a process, in any order; what they promise holds."""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from sage_dask.endpoint.slots import RequestSlots, Slot
from tests.endpoint.virtual_time import now_s, run, settle

_JOBS = ("rag", "other")
_SETS = (("a",), ("b",), ("a", "b"))

_ALLOTMENTS = st.dictionaries(
    st.sampled_from("ab"), st.dictionaries(st.sampled_from(_JOBS), st.integers(0, 4)), max_size=2
)
_STEPS = st.one_of(
    st.tuples(st.just("allot"), _ALLOTMENTS),
    st.tuples(
        st.just("acquire"),
        st.tuples(
            st.sampled_from(_JOBS),
            st.sampled_from(_SETS),
            st.sampled_from([None, "x", "y", "z"]),
            st.integers(1, 6),
        ),
    ),
    st.tuples(st.just("cancel"), st.integers(0, 99)),
    st.tuples(st.just("hand on and cancel"), st.integers(0, 99)),
    st.tuples(
        st.just("release"),
        st.tuples(st.integers(0, 99), st.sampled_from(["ok", "busy", "failed", "cancelled"])),
    ),
    st.tuples(st.just("pause"), st.floats(0.1, 5)),
)


class _World:
    """Requests of two jobs to two replicas, and what must be true of them."""

    def __init__(self) -> None:
        self.slots = RequestSlots(clock=now_s, jitter=lambda: 0.5)
        self.allotments: dict[str, dict[str, int]] | None = None
        self.asked: list[tuple[str, tuple[str, ...], asyncio.Task[Slot]]] = []
        self.held: list[Slot] = []
        self.ended: Counter[str] = Counter()

    async def do(self, what: str, how) -> None:
        """Take one step, and check everything."""
        before = self.in_flight()
        if what == "allot":
            self.allotments = how
            self.slots.allot(how, version=1)
        elif what == "acquire":
            job, endpoints, prefix, number = how
            for _ in range(number):
                call = self.slots.acquire(endpoints, job, "task", prefix=prefix)
                self.asked.append((job, endpoints, asyncio.create_task(call)))
        elif what == "pause":
            await asyncio.sleep(how)
        elif what == "cancel" and self.asked:
            self.asked[how % len(self.asked)][2].cancel()
        elif what == "hand on and cancel" and self.held:
            self._release(how, "ok")
            for _, _, task in self.asked[:2]:
                task.cancel()
        elif what == "release" and self.held:
            self._release(*how)
        await self._collect()
        self._check(before)

    def _release(self, which: int, outcome: str) -> None:
        self.ended[outcome] += 1
        self.held.pop(which % len(self.held)).release(outcome)

    async def _collect(self) -> None:
        await settle()
        done = [each for each in self.asked if each[2].done()]
        self.asked = [each for each in self.asked if not each[2].done()]
        self.held += [task.result() for _, _, task in done if not task.cancelled()]

    def in_flight(self) -> Counter[tuple[str, str]]:
        """Count what is held, by endpoint and job."""
        return Counter((slot.endpoint, slot.job) for slot in self.held)

    def _slots_of(self, endpoint: str, job: str) -> float:
        if self.allotments is None:
            return float("inf")
        return self.allotments.get(endpoint, {}).get(job, 0)

    def _check(self, before: Counter[tuple[str, str]]) -> None:
        in_flight = self.in_flight()
        report = self.slots.report()
        assert report.in_flight == in_flight
        assert self.slots.statistics().waiting == len(self.asked)
        for (endpoint, job), number in in_flight.items():
            assert number <= max(self._slots_of(endpoint, job), before[endpoint, job])
        for outcomes in report.outcomes.values():
            self.ended.subtract(ok=outcomes.ok, busy=outcomes.busy, failed=outcomes.failed)
        assert not any(number for what, number in self.ended.items() if what != "cancelled")

    def check_nothing_idles(self) -> None:
        """Nobody waits for an endpoint that has a free slot."""
        in_flight = self.in_flight()
        for job, endpoints, _ in self.asked:
            for endpoint in endpoints:
                assert in_flight[endpoint, job] >= self._slots_of(endpoint, job)


@given(steps=st.lists(_STEPS, max_size=60))
@settings(max_examples=150)
def test_slots_are_never_exceeded_and_never_idle_while_the_servers_answer(steps):
    """After every step: as many as allotted, no more, and no free slot beside who waits for it."""

    async def main() -> None:
        world = _World()
        for what, how in steps:
            if what == "release" and how[1] == "failed":
                continue
            await world.do(what, how)
            world.check_nothing_idles()

    run(main())


@given(steps=st.lists(_STEPS, max_size=60))
@settings(max_examples=150)
def test_everybody_gets_a_slot_in_the_end_whatever_failed(steps):
    """Outages come and go; once servers answer and slots are allotted, the lines empty."""

    async def main() -> None:
        world = _World()
        for what, how in steps:
            await world.do(what, how)

        await world.do("allot", {endpoint: dict.fromkeys(_JOBS, 2) for endpoint in "ab"})
        for _ in range(1000):
            if not world.asked and not world.held:
                break
            await asyncio.sleep(0.5)
            await world.do("pause", 0.1)
            while world.held:
                await world.do("release", (0, "ok"))

        assert not world.asked
        assert world.slots.statistics().in_flight == 0

    run(main())
