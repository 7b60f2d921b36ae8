"""Requests of a process that nobody else governs."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from sage_dask import aio
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.endpoint.caller import Caller
from sage_dask.endpoint.context import working
from sage_dask.endpoint.limit import RequestLimit
from sage_dask.governor import Governor, own_governor

URL, OTHER = "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"

# What happens at all does so in milliseconds; this only ends a test that would hang.
PATIENCE_S = 30


@pytest.fixture
def governor():
    """Lend a governor of its own, which asks nobody any more afterwards."""
    governor = Governor()
    yield governor
    if governor._asking is not None:
        aio.background_loop().call_soon_threadsafe(governor._asking.cancel)


def until(condition):
    """Wait for what happens soon on the process's loop; fail if it does not."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        aio.run(asyncio.sleep(0.001))


class Requests:
    """Requests of one job, each under way from its turn until it is answered."""

    def __init__(self, context, endpoints, number):
        self.num_begun = self.num_answered = 0
        self._answers = asyncio.Semaphore(0)
        self._futures = [aio.submit(self._one(context(), endpoints)) for _ in range(number)]

    @property
    def num_running(self):
        """Those under way."""
        return self.num_begun - self.num_answered

    async def _one(self, context, endpoints):
        context.slots.entered(context.task)
        slot = await context.slots.acquire(endpoints, context.job, context.task)
        self.num_begun += 1
        await self._answers.acquire()
        self.num_answered += 1
        slot.release("ok", 0.1)
        context.slots.left(context.task)

    def answer(self, number):
        """Answer some, the first that are under way."""
        for _ in range(number):
            aio.background_loop().call_soon_threadsafe(self._answers.release)

    def end(self):
        """Have all answered, also those that wait for their turn."""
        self.answer(len(self._futures))
        for future in self._futures:
            future.result(PATIENCE_S)


def ask(governor, job, number, endpoints=(URL,), limit=6):
    """Send requests of a job, and return them."""
    limits = dict.fromkeys(endpoints, RequestLimit(limit))
    return Requests(governor.context(job, limits), endpoints, number)


def test_requests_stay_below_the_limit_and_all_get_their_turn(governor):
    """Of twenty, six are under way at once; in the end all were."""
    requests = ask(governor, "rag/1", 20)
    until(lambda: governor.slots.statistics().waiting == 14)

    assert governor.slots.statistics().slots == requests.num_running == 6
    requests.end()

    assert requests.num_answered == 20


def test_nothing_starts_before_it_is_allotted(governor):
    """A governor begins with no slots at all, so that a first burst is not unlimited."""
    assert governor.slots.statistics().slots == 0


def test_two_jobs_share_evenly(governor):
    """The one that was alone gives half away as its requests are answered, and no more."""
    many = ask(governor, "rag/1", 40)
    until(lambda: many.num_running == 6)
    few = ask(governor, "eval/1", 8)
    until(lambda: governor.slots.statistics().slots == 3)  # Those that are left to it.

    many.answer(3)
    until(lambda: few.num_running == 3)
    many.answer(1)
    until(lambda: many.num_answered == 4)
    until(lambda: many.num_running == 3)

    assert few.num_running == 3
    many.end()
    few.end()


def test_a_job_that_ends_leaves_its_slots_to_the_other(governor):
    """Once its requests are answered, the other has all six."""
    one = ask(governor, "rag/1", 3)
    until(lambda: one.num_running == 3)
    other = ask(governor, "eval/1", 40)
    until(lambda: other.num_running == 3)

    one.end()

    until(lambda: other.num_running == 6)
    other.end()


def test_limits_by_hand_are_for_servers_alone(governor):
    """A gate with a URL is fixed, however it is written; one with a name means nothing here."""
    governor.set_limits({"HTTP://127.0.0.1:1/v1/": 2, "chat": 1})

    requests = ask(governor, "rag/1", 9, limit=None)
    until(lambda: governor.slots.statistics().waiting == 7)

    assert governor.slots.statistics().slots == requests.num_running == 2
    requests.end()


def test_room_is_what_servers_take_and_what_comes_next(governor):
    """Two and a half limits, over all replicas."""
    both = {URL: RequestLimit(4), OTHER: RequestLimit(8)}
    governor.context("rag/1", both)
    until(lambda: governor.room(both) == 2.5 * 12)

    assert governor.room({URL: RequestLimit(4)}) == 10


def test_a_stage_without_servers_is_not_governed(governor):
    """Its context has slots of its own, as many as are asked for."""
    context = governor.context("rag/1", {})()

    assert context.slots is not governor.slots
    assert context.slots.statistics().slots is None


def test_servers_are_asked_only_while_there_are_requests(governor):
    """The asking begins with the first request and is over with the last."""
    requests = ask(governor, "rag/1", 3)
    until(lambda: governor._asking is not None)

    requests.end()

    until(lambda: governor._asking is None)
    assert governor._outstanding == {}


def test_asking_begins_again_with_the_next_job(governor):
    """A governor lives as long as its process."""
    for number in range(3):
        requests = ask(governor, f"rag/{number}", 3)
        until(lambda: governor._asking is not None)
        requests.end()
        until(lambda: governor._asking is None)


def test_a_client_that_can_not_ask_is_told_of_and_costs_nobody_a_request(
    governor, monkeypatch, caplog
):
    """Limits follow refused requests alone then."""

    async def broken(servers, observe):
        raise RuntimeError("planted")

    monkeypatch.setattr("sage_dask.governor.ask_servers", broken)
    requests = ask(governor, "rag/1", 3)
    until(lambda: "not asked for their load any more" in caplog.text)

    requests.end()

    assert requests.num_answered == 3


def test_the_limit_of_a_server_is_found(governor):
    """Its gauges are read, so the limit grows from eight to about its thirty-two seats."""
    with TimedServer(seats=32, latency_s=0.1) as server:
        limits = {server.endpoint: RequestLimit()}
        context = governor.context("rag/1", limits)()

        async def ask_many() -> None:
            body = {"model": "timed", "messages": [{"role": "user", "content": "hi"}]}
            caller = Caller([server.endpoint])
            with working(context):
                await asyncio.gather(
                    *(
                        caller.call("chat/completions", {**body, "max_tokens": 1})
                        for _ in range(800)
                    )
                )
            await caller.close()

        aio.submit(ask_many()).result(PATIENCE_S)

        assert server.statistics()["most_running"] >= 30
        # What people are shown, of the servers that are asked for.
        load = governor.load([server.endpoint, "http://nobody:1/v1"])
        assert list(load) == [server.endpoint]
        assert load[server.endpoint].limit >= 30
        # A search may be at twice the seats when the last answer comes, and never goes further.
        assert governor.room(limits) <= 2.5 * 2 * 32


def test_processes_have_one_governor():
    """All jobs of a process share it, or limits would be multiplied by jobs."""
    assert own_governor() is own_governor()


def test_a_forked_child_has_a_governor_of_its_own():
    """The parent's belongs to a loop that is not there, in which a request would wait for ever."""
    parents = own_governor()
    ask(parents, "rag/1", 1, limit=2).end()

    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE_S)  # A child that waits for ever would keep its parent, too.
        own = own_governor()
        requests = ask(own, "rag/1", 1, limit=2)
        until(lambda: requests.num_running)
        os._exit(0 if own is not parents else 1)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
