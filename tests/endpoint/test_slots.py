"""Slots of one process: who starts when, what is reported, what an outage does."""

from __future__ import annotations

import asyncio

import pytest

from sage_dask.endpoint.breaker import FAILURES_IN_A_ROW
from sage_dask.endpoint.report import Outcomes
from sage_dask.endpoint.routing import preferred, prefix_key
from sage_dask.endpoint.slots import RequestSlots, Slot, SlotsStatistics
from sage_dask.errors import InvariantError, StopRun
from tests.endpoint.virtual_time import now_s, run, settle

_A, _B = "http://a/v1", "http://b/v1"
_PREFIX_OF = {
    preferred(prefix_key(text), (_A, _B)): text for text in (f"prefix {n}" for n in range(20))
}


def _slots(**allotments: int) -> RequestSlots:
    """Return slots at endpoint A, by job; ungoverned if none are given."""
    slots = RequestSlots(clock=now_s, jitter=lambda: 0.0)
    if allotments:
        slots.allot({_A: allotments}, version=1)
    return slots


def _ask(
    slots: RequestSlots, job: str = "rag", endpoints: tuple[str, ...] = (_A,), **options: str
) -> asyncio.Task[Slot]:
    return asyncio.create_task(slots.acquire(endpoints, job, task=f"{job}-task", **options))


async def _held(slots: RequestSlots, number: int, job: str = "rag") -> list[Slot]:
    return [await slots.acquire([_A], job, f"{job}-task") for _ in range(number)]


async def _fail(slots: RequestSlots, endpoint: str = _A, number: int = FAILURES_IN_A_ROW) -> None:
    """Have an endpoint go down."""
    for _ in range(number):
        (await slots.acquire([endpoint], "rag", "task")).release(
            "failed", said="connection refused"
        )


def test_without_a_governor_everything_starts_at_once():
    """Operators work outside any runner, with as many requests as they like."""

    async def main() -> None:
        slots = _slots()

        await _held(slots, 500)

        assert slots.statistics() == SlotsStatistics(500, None, 0, 1, 0)
        assert repr(slots) == "<RequestSlots 500 in flight, 0 waiting, 0 of 1 endpoints down>"

    run(main())


def test_more_requests_than_slots_wait_in_the_order_of_arrival():
    """A slot that comes back starts the next request, without any message in between."""

    async def main() -> None:
        slots = _slots(rag=2)
        held = await _held(slots, 2)
        asked = [_ask(slots) for _ in range(3)]
        await settle()
        assert repr(slots) == "<RequestSlots 2/2 in flight, 3 waiting, 0 of 1 endpoints down>"

        held[0].release("ok")
        await settle()
        assert [task.done() for task in asked] == [True, False, False]
        held[1].release("busy")
        asked[0].result().release("failed")
        await settle()

        assert all(task.done() for task in asked)
        assert slots.statistics().in_flight == 2

    run(main())


def test_a_job_without_slots_waits_while_another_has_some():
    """What is not named in an allotment has no slots, and a job never takes another's."""

    async def main() -> None:
        slots = _slots(rag=1)
        other = _ask(slots, "other")
        (held,) = await _held(slots, 1)
        mine = _ask(slots)
        await settle()
        assert not other.done()

        held.release("ok")
        await settle()

        assert mine.done()
        assert not other.done()
        slots.allot({_A: {"other": 1}}, version=2)
        await settle()
        assert other.done()

    run(main())


def test_a_higher_allotment_starts_requests_at_once():
    """Those who wait need not wait for a slot to come back."""

    async def main() -> None:
        slots = _slots(rag=1)
        await _held(slots, 1)
        asked = [_ask(slots) for _ in range(4)]
        await settle()

        slots.allot({_A: {"rag": 4}}, version=2)
        await settle()

        assert [task.done() for task in asked] == [True, True, True, False]

    run(main())


def test_an_allotment_below_what_is_in_flight_takes_nothing_away():
    """Nothing starts until enough has come back."""

    async def main() -> None:
        slots = _slots(rag=4)
        held = await _held(slots, 4)
        asked = _ask(slots)
        await settle()

        slots.allot({_A: {"rag": 2}}, version=2)
        for slot in held[:2]:
            slot.release("ok")
        await settle()
        assert slots.statistics().in_flight == 2
        assert not asked.done()
        held[2].release("ok")
        await settle()

        assert asked.done()

    run(main())


def test_endpoints_that_appear_after_the_first_allotment_have_no_slots():
    """Governed is governed, also where the governor has not heard of an endpoint yet."""

    async def main() -> None:
        slots = _slots(rag=1)

        asked = _ask(slots, endpoints=(_B,))
        await settle()

        assert not asked.done()
        slots.allot({_B: {"rag": 1}}, version=2)
        assert (await asked).endpoint == _B

    run(main())


def test_a_cancelled_request_leaves_the_line():
    """The slot goes to the next one."""

    async def main() -> None:
        slots = _slots(rag=1)
        (held,) = await _held(slots, 1)
        first, second = _ask(slots), _ask(slots)
        await settle()

        first.cancel()
        await settle()
        assert slots.statistics().waiting == 1
        held.release("ok")
        await settle()

        assert second.done()
        assert slots.statistics().in_flight == 1

    run(main())


@pytest.mark.parametrize("is_cancelled_first", [False, True])
def test_a_slot_handed_to_a_request_that_is_cancelled_in_the_same_turn_goes_on(is_cancelled_first):
    """Whichever comes first, cancellation or slot: the next request gets it and none is lost."""

    async def main() -> None:
        slots = _slots(rag=1)
        (held,) = await _held(slots, 1)
        first, second = _ask(slots), _ask(slots)
        await settle()

        if is_cancelled_first:
            first.cancel()
            held.release("ok")
        else:
            held.release("ok")
            first.cancel()
        await settle()

        assert first.cancelled()
        (await second).release("ok")
        assert slots.statistics() == SlotsStatistics(0, 1, 0, 1, 0)
        assert slots.report().outcomes[_A] == Outcomes(ok=2)

    run(main())


def test_a_slot_is_released_once():
    """A second release is a defect of the caller and is told as one."""

    async def main() -> None:
        slots = _slots(rag=1)
        (held,) = await _held(slots, 1)
        held.release("ok")

        with pytest.raises(InvariantError, match=r"http://a/v1 for 'rag'.*a second time"):
            held.release("ok")

        assert slots.statistics().in_flight == 0

    run(main())


def test_a_slot_of_no_endpoint_is_refused():
    """Nobody could ever give it."""

    async def main() -> None:
        with pytest.raises(ValueError, match="'rag' asks for a slot of no endpoint"):
            await _slots().acquire([], "rag", None)

    run(main())


def test_the_report_counts_outcomes_since_the_last_one():
    """Latencies are those of answers; what was cancelled says nothing of the server."""

    async def main() -> None:
        slots = _slots(rag=8)
        held = await _held(slots, 6)
        for slot, outcome in zip(held, ("ok", "ok", "busy", "failed", "cancelled"), strict=False):
            slot.release(outcome, latency_s=0.5)

        report = slots.report()

        assert report.outcomes == {_A: Outcomes(ok=2, busy=1, failed=1, latency_s=1.0)}
        assert report.in_flight == {(_A, "rag"): 1}
        assert report.version == 1
        assert slots.report().outcomes == {}
        assert slots.report().in_flight == {(_A, "rag"): 1}

    run(main())


def test_the_report_names_a_task_that_is_done_once_more_with_nothing():
    """Its last report says 0, and then it is forgotten."""
    slots = _slots()
    slots.entered("task", 3)
    slots.left("task")
    assert slots.report().outstanding == {"task": 2}

    slots.left("task", 2)

    assert slots.report().outstanding == {"task": 0}
    assert slots.report().outstanding == {}


def test_a_report_stays_as_it_was():
    """It is sent later, when more may have happened."""
    slots = _slots()
    slots.entered("task")
    report = slots.report()

    slots.entered("task")

    assert report.outstanding == {"task": 1}


def test_more_requests_can_not_leave_than_have_entered():
    """Counts that go wrong are told, and not carried on."""
    slots = _slots()
    slots.entered("task")

    with pytest.raises(InvariantError, match="2 requests left, but only 1 had entered"):
        slots.left("task", 2)


def test_every_change_of_the_report_is_told():
    """Counts of tasks, starts, ends and allotments are; asking for the report is not."""

    async def main() -> None:
        slots = _slots()
        told: list[str] = []
        for what in ("entered", "started", "allotted", "handed on", "ended", "left"):
            slots.on_change = lambda what=what: told.append(what)
            before = len(told)
            if what == "entered":
                slots.entered("task")
            elif what == "started":
                (held,) = await _held(slots, 1)
            elif what == "allotted":
                slots.allot({_A: {"rag": 1}}, version=7)
            elif what == "handed on":
                asked = _ask(slots)
                await settle()
                held.release("ok")
                held = await asked
            elif what == "ended":
                held.release("ok")
            else:
                slots.left("task")
            assert len(told) > before, what
        number = len(told)
        assert slots.report().version == 7

        assert len(told) == number

    run(main())


def test_requests_wait_out_an_outage():
    """One probes each second, nobody fails, and all go on when the server is back."""

    async def main() -> list[float]:
        slots = _slots(rag=4)
        await _fail(slots)
        starts: list[float] = []

        async def request() -> None:
            while True:
                slot = await slots.acquire([_A], "rag", "task")
                starts.append(now_s())
                if now_s() > 10.0:
                    await asyncio.sleep(0.1)
                    slot.release("ok", 0.1)
                    return
                slot.release("failed", said="connection refused")
                assert slots.down_s(_A) is not None

        await asyncio.gather(*[request() for _ in range(20)])
        assert slots.down_s(_A) is None
        return starts

    starts = run(main())

    assert [at for at in starts if at < 10.5] == pytest.approx(list(range(1, 12))[:10])
    assert 10.5 < starts[10] <= 12.0
    assert max(starts) < 12.0


def test_slow_start_lets_requests_back_in_rounds():
    """After the probe two start, then four, although there is room for more."""

    async def main() -> list[int]:
        slots = _slots(rag=16)
        await _fail(slots)
        asked = {_ask(slots) for _ in range(40)}
        rounds: list[int] = []
        await asyncio.sleep(1.05)

        while asked:
            started = {task for task in asked if task.done()}
            asked -= started
            rounds.append(len(started))
            for task in started:
                task.result().release("ok")
            await settle()
        return rounds

    assert run(main())[:5] == [1, 2, 4, 8, 16]


def test_during_an_outage_a_probe_may_be_of_any_job():
    """Room that a breaker gives is handed out by age and not by job."""

    async def main() -> None:
        slots = RequestSlots(clock=now_s, jitter=lambda: 0.0)
        slots.allot({_A: {"rag": 8, "other": 8}}, version=1)
        await _fail(slots)
        first, second = _ask(slots, "other"), _ask(slots, "rag")

        await asyncio.sleep(1.5)
        assert (first.done(), second.done()) == (True, False)
        first.result().release("ok")
        await settle()

        assert second.done()

    run(main())


def test_a_probe_that_is_cancelled_is_sent_by_another_at_once():
    """The outage does not last longer for it."""

    async def main() -> None:
        slots = _slots(rag=4)
        await _fail(slots)
        first, second = _ask(slots), _ask(slots)
        await asyncio.sleep(1.2)

        first.result().release("cancelled")
        await settle()

        assert second.done()
        assert now_s() == pytest.approx(1.2)

    run(main())


def test_a_probe_waits_for_a_slot_without_turning_in_circles():
    """Where hung requests hold all slots a due probe starts when the first of them ends."""

    async def main() -> None:
        slots = _slots(rag=6)
        (hung,) = await _held(slots, 1)
        await _fail(slots)
        slots.allot({_A: {"rag": 1}}, version=2)
        asked = _ask(slots)
        await asyncio.sleep(30.0)
        assert not asked.done()

        hung.release("failed", said="no answer within 30 s")
        await settle()

        assert asked.done()

    run(main())


def test_an_outage_that_lasts_too_long_stops_all_who_wait():
    """The message names the server, the time, the cause and what to do."""

    async def main() -> None:
        slots = _slots(rag=4)
        slots.configure([_A], max_outage_s=600.0)
        await _fail(slots)

        async def request() -> None:
            while True:
                slot = await slots.acquire([_A], "rag", "task")
                slot.release("failed", said="connection refused")

        asked = [asyncio.create_task(request()) for _ in range(3)]
        stopped = await asyncio.gather(*asked, return_exceptions=True)

        assert now_s() == pytest.approx(600.0)
        assert {type(error) for error in stopped} == {StopRun}
        assert str(stopped[0]) == (
            "model server http://a/v1 has been unreachable for 10 min (last: connection refused); "
            "start it, then run again (what was written is kept)"
        )
        assert stopped[0] is not stopped[1]
        with pytest.raises(StopRun, match="unreachable for 10 min"):
            await slots.acquire([_A], "rag", "task")

    run(main())


def test_a_run_after_one_that_gave_up_tries_for_itself():
    """The server was started again meanwhile, as the message asked, and serves the next run."""

    async def main() -> None:
        slots = _slots(rag=4, again=4)
        slots.configure([_A], max_outage_s=60.0)

        async def insist() -> None:
            while True:
                (await slots.acquire([_A], "rag", "task")).release("failed")

        with pytest.raises(StopRun, match="for 60 s"):
            await insist()

        (await slots.acquire([_A], "again", "task")).release("ok")

        assert slots.down_s(_A) is None

    run(main())


def test_a_run_that_begins_within_an_outage_waits_as_long_as_any():
    """What others waited before does not count, and it gives up in the end, too."""

    async def main() -> None:
        slots = _slots(rag=4, again=4)
        slots.configure([_A], max_outage_s=60.0)
        await _fail(slots)
        await asyncio.sleep(50.0)

        async def insist() -> None:
            while True:
                (await slots.acquire([_A], "again", "task")).release("failed")

        with pytest.raises(StopRun, match="for 110 s"):
            await insist()

        assert now_s() == pytest.approx(110.0)

    run(main())


def test_a_later_job_finds_out_for_itself_whether_the_server_is_back():
    """What an earlier run left behind stops nobody who comes long after it."""

    async def main() -> None:
        slots = _slots(rag=4)
        slots.configure([_A], max_outage_s=60.0)
        await _fail(slots)
        await asyncio.sleep(3600.0)
        assert slots.down_s(_A) is None

        asked = [_ask(slots) for _ in range(3)]
        await settle()
        assert [task.done() for task in asked] == [True, False, False]
        asked[0].result().release("ok")
        await settle()

        assert all(task.done() for task in asked)

    run(main())


def test_one_endpoint_down_among_two_sends_its_requests_to_the_other():
    """It is left out while it is down, probed meanwhile, and comes back by a slow start."""

    async def main() -> None:
        slots = RequestSlots(clock=now_s, jitter=lambda: 0.0)
        slots.configure([_A, _B], max_outage_s=5.0)
        slots.allot({_A: {"rag": 8}, _B: {"rag": 8}}, version=1)
        await _fail(slots, _A)
        assert repr(slots) == "<RequestSlots 0/16 in flight, 0 waiting, 1 of 2 endpoints down>"

        for _ in range(100):
            slot = await slots.acquire([_A, _B], "rag", "task", prefix=_PREFIX_OF[_A])
            await asyncio.sleep(0.1)
            slot.release("failed" if slot.endpoint == _A else "ok")
        assert slots.down_s(_A) == pytest.approx(10.0, abs=0.2)
        assert slots.report().outcomes[_B].ok >= 90
        back = []
        for _ in range(20):
            slot = await slots.acquire([_A, _B], "rag", "task", prefix=_PREFIX_OF[_A])
            await asyncio.sleep(0.1)
            slot.release("ok")
            back.append(slot.endpoint)

        assert back[-1] == _A
        assert slots.down_s(_A) is None

    run(main())


def test_all_endpoints_down_is_an_outage_of_all():
    """The time counts from when the last of them went."""

    async def main() -> None:
        slots = RequestSlots(clock=now_s, jitter=lambda: 0.0)
        slots.configure([_A, _B], max_outage_s=30.0)
        await _fail(slots, _A)
        await asyncio.sleep(20.0)
        await _fail(slots, _B)

        async def insist() -> None:
            while True:
                (await slots.acquire([_B, _A], "rag", "task")).release("failed")
                await asyncio.sleep(0.01)

        with pytest.raises(StopRun, match=r"servers http://b/v1, http://a/v1 have .* for 30 s"):
            await insist()

        assert now_s() == pytest.approx(50.0, abs=0.1)

    run(main())


@pytest.mark.parametrize("cause", ["it is down", "it has no slots"])
def test_waiting_requests_move_away_from_a_replica_that_can_not_be_used(cause):
    """They lose their preference, and are not overtaken by those who prefer the other one."""

    async def main() -> None:
        slots = RequestSlots(clock=now_s, jitter=lambda: 0.0)
        slots.allot({_A: {"rag": FAILURES_IN_A_ROW}, _B: {"rag": 1}}, version=1)
        held = await slots.acquire([_B], "rag", "task")
        under_way = await _held(slots, FAILURES_IN_A_ROW)
        for_a = _ask(slots, endpoints=(_A, _B), prefix=_PREFIX_OF[_A])
        await settle()
        for_b = _ask(slots, endpoints=(_A, _B), prefix=_PREFIX_OF[_B])
        await settle()

        if cause == "it is down":
            slots.allot({_A: {"rag": 1}, _B: {"rag": 1}}, version=2)
            for slot in under_way:
                slot.release("failed")
        else:
            slots.allot({_B: {"rag": 1}}, version=2)
        held.release("ok")
        await settle()

        assert (for_a.done(), for_b.done()) == (True, False)

    run(main())


def test_who_comes_when_a_probe_is_due_does_not_overtake_who_waits_for_it():
    """A loop that is late with its timers changes nothing in the order."""

    async def main() -> None:
        late_s = 0.0
        slots = RequestSlots(clock=lambda: now_s() + late_s, jitter=lambda: 0.0)
        await _fail(slots)
        first = _ask(slots)
        await settle()

        late_s = 1.0
        second = _ask(slots)
        await asyncio.sleep(1.0)

        assert (first.done(), second.done()) == (True, False)

    run(main())


def test_a_probe_that_is_due_is_not_forgotten_for_another_endpoint():
    """Whoever comes to wait for something else leaves its timer alone."""

    async def main() -> None:
        late_s = 0.0
        slots = RequestSlots(clock=lambda: now_s() + late_s, jitter=lambda: 0.0)
        slots.allot({_A: {"rag": 1}}, version=1)
        await _fail(slots)
        asked = _ask(slots)
        await settle()

        late_s = 1.0
        other = _ask(slots, endpoints=(_B,))
        await asyncio.sleep(1.0)

        assert (asked.done(), other.done()) == (True, False)

    run(main())


def test_the_next_probe_to_come_is_waited_for_whichever_endpoint_it_is_of():
    """An outage that has just begun is probed soon, also beside one that is probed rarely."""

    async def main() -> None:
        slots = _slots()
        await _fail(slots, _B)
        await asyncio.sleep(90.0)
        await _fail(slots, _B, number=1)
        other = _ask(slots, endpoints=(_B,))
        await settle()

        await _fail(slots, _A)
        asked = _ask(slots, endpoints=(_A,))
        await asyncio.sleep(1.1)

        assert (asked.done(), other.done()) == (True, False)

    run(main())


def test_the_latest_error_is_kept_for_messages():
    """It is what a caller quotes; nothing is known of a server that never failed."""

    async def main() -> None:
        slots = _slots(rag=4)
        assert slots.last_error(_A) == ""
        assert slots.down_s(_B) is None

        await _fail(slots, number=1)

        assert slots.last_error(_A) == "connection refused"
        assert slots.last_error(_B) == ""

    run(main())


def test_without_a_governor_everything_starts_again():
    """Whoever waited for slots starts once nobody governs the requests any more."""

    async def scenario():
        slots = RequestSlots()
        slots.allot({}, 1)
        waiting = [asyncio.ensure_future(slots.acquire(["http://a/v1"], "j", n)) for n in range(3)]
        await asyncio.sleep(0)
        assert slots.statistics().in_flight == 0

        slots.free()

        for slot in await asyncio.gather(*waiting):
            slot.release("ok")
        return slots.statistics()

    assert asyncio.run(scenario()).slots is None
