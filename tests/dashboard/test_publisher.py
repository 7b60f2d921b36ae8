"""The driver's end: when news are sent, and that nothing of it can hurt a run."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest
from distributed.protocol import pickle

from sage_dask.dashboard.publisher import ALIVE_S, EVERY_S, LAST_S, Publisher, publishing
from sage_dask.testing import FakeClock
from tests.dashboard.news import progress


class FakeClient:
    """A client whose loop turns only when it is told to."""

    id = "Client-1"
    status = "running"

    def __init__(self):
        self.loop = SimpleNamespace(
            add_callback=lambda *call: self.waiting.append(call),
            call_later=self.call_later,
            remove_timeout=lambda timer: self.timers.remove(timer),
        )
        self.timers = []
        self.scheduler = SimpleNamespace(sage_dask_news=self.tell)
        self.waiting = []
        self.told = []
        self.error = None
        self.timeouts = []

    async def tell(self, job, client, news):
        """Hear news, as the scheduler does."""
        if self.error is not None:
            raise self.error
        self.told.append((job, client, pickle.loads(news).num_read))

    def call_later(self, delay_s, function, *arguments):
        """Keep a timer."""
        assert delay_s == ALIVE_S
        self.timers.append((function, *arguments))
        return self.timers[-1]

    def ring(self):
        """Let time pass until all timers have rung."""
        timers, self.timers = self.timers, []
        for function, *arguments in timers:
            function(*arguments)

    def turn(self):
        """Let the loop do what waits."""
        waiting, self.waiting = self.waiting, []
        for function, *arguments in waiting:
            asyncio.run(function(*arguments))

    def sync(self, function, *arguments, callback_timeout):
        """Wait for a coroutine."""
        self.timeouts.append(callback_timeout)
        return asyncio.run(function(*arguments))


class Counting:
    """A job that is one record further each time somebody asks."""

    def __init__(self):
        self.num_read = 0

    def __call__(self):
        """Return how far it is."""
        self.num_read += 1
        return progress(self.num_read)


@pytest.fixture
def client():
    """Lend a fake client."""
    return FakeClient()


@pytest.fixture
def clock():
    """Lend a clock that stands."""
    return FakeClock()


@pytest.fixture
def publisher(client, clock):
    """Lend a publisher of a job that counts."""
    return Publisher(client, "rag/1", Counting(), clock=clock)


def test_the_first_news_go_at_once_and_the_next_after_half_a_second(publisher, client, clock):
    """In between nobody is even asked how far the job is."""
    for _ in range(100):
        publisher.tick()
        client.turn()
    clock.advance(EVERY_S)
    publisher.tick()
    client.turn()

    assert client.told == [("rag/1", "Client-1", 1), ("rag/1", "Client-1", 2)]


def test_a_driver_that_is_at_something_long_is_heard_of_all_the_same(publisher, client):
    """It writes the whole output, say, and does not tick: its last news are said again."""
    publisher.tick()
    client.turn()

    for _ in range(3):
        client.ring()
        client.turn()

    assert [num_read for _, _, num_read in client.told] == [1, 1, 1, 1]
    assert len(client.timers) == 1


def test_a_job_that_is_over_is_not_said_to_go_on(publisher, client):
    """Its last news stay the last."""
    publisher.tick()
    client.turn()

    publisher.end()
    client.ring()
    client.turn()

    assert [num_read for _, _, num_read in client.told] == [1, 2]


def test_while_news_are_under_way_no_others_are_sent(publisher, client, clock):
    """A scheduler that is slow gets fewer of them, and no queue."""
    for _ in range(100):
        publisher.tick()
        clock.advance(EVERY_S)
    waiting = len(client.waiting)
    client.turn()
    publisher.tick()
    client.turn()

    assert waiting == 1
    assert [number for *_, number in client.told] == [1, 2]


def test_the_end_is_told_at_once_and_waited_for_a_moment(publisher, client):
    """However short ago the last news were."""
    publisher.tick()
    client.turn()

    publisher.end()

    assert [number for *_, number in client.told] == [1, 2]
    assert client.timeouts == [LAST_S]


def test_a_job_that_never_began_has_no_end_to_tell(publisher, client):
    """What was refused at its start is nobody's news."""
    publisher.end()

    assert client.told == client.timeouts == []


def test_nothing_is_sent_to_a_scheduler_that_is_gone(publisher, client, clock):
    """Neither news nor the end."""
    publisher.tick()
    client.turn()
    client.status = "closed"
    clock.advance(EVERY_S)

    publisher.tick()
    publisher.end()

    assert (len(client.told), client.waiting, client.timeouts) == (1, [], [])


@pytest.mark.parametrize("error", [OSError("closed"), TimeoutError(), RuntimeError("planted")])
def test_news_that_can_not_be_told_cost_the_run_nothing(publisher, client, clock, error, caplog):
    """They are counted; what is no trouble of the network is told once, and the next ones go."""
    client.error = error
    with caplog.at_level(logging.WARNING, "sage_dask"):
        for _ in range(3):
            publisher.tick()
            client.turn()
            clock.advance(EVERY_S)
        publisher.end()
    client.error = None
    publisher.tick()
    client.turn()

    assert publisher.num_errors == 4
    assert len(client.told) == 1
    assert len(caplog.records) == (1 if isinstance(error, RuntimeError) else 0)


def test_progress_that_can_not_be_had_costs_the_run_nothing(client, clock):
    """A defect in counting does not become one of running."""

    def broken():
        raise ZeroDivisionError

    publisher = Publisher(client, "rag/1", broken, clock=clock)
    publisher.tick()
    publisher.end()

    assert (publisher.num_errors, client.told) == (2, [])


def test_what_ends_a_run_goes_on_after_its_end_was_told(client):
    """Done, failed or interrupted: all of it is told."""

    def interrupted():
        with publishing(client, "rag/1", Counting()) as publish:
            publish()
            client.turn()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert [number for *_, number in client.told] == [1, 2]
