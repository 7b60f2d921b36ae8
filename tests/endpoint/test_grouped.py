"""A thread that answers the questions of event loops in groups."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sage_dask.endpoint.grouped import GroupedThread


class Doubling:
    """Doubles numbers, and remembers in which groups; the first group waits to be let go."""

    def __init__(self):
        self.groups = []
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, numbers):
        self.groups.append(list(numbers))
        self.begun.set()
        assert self.go_on.wait(10)
        return [2 * number for number in numbers]


@pytest.fixture
def doubling():
    """Lend a function, and the thread that runs it in groups of three at most."""
    work = Doubling()
    thread = GroupedThread("doubling", work, most=3)
    yield work, thread
    work.go_on.set()
    thread.close()


def test_questions_that_came_meanwhile_are_answered_together(doubling):
    """While one group is worked on the next ones gather, up to the largest size; order holds."""
    work, thread = doubling

    async def ask_all():
        first = asyncio.create_task(thread.ask(0))
        await asyncio.to_thread(work.begun.wait, 10)
        others = [asyncio.create_task(thread.ask(number)) for number in range(1, 6)]
        await asyncio.sleep(0)
        work.go_on.set()
        return await asyncio.gather(first, *others)

    answers = asyncio.run(ask_all())

    assert answers == [0, 2, 4, 6, 8, 10]
    assert work.groups == [[0], [1, 2, 3], [4, 5]]


def test_who_was_called_off_does_not_disturb_the_others(doubling):
    """A question whose asker was cancelled is answered to nobody, and its group goes on."""
    work, thread = doubling

    async def ask_all():
        first = asyncio.create_task(thread.ask(0))
        await asyncio.to_thread(work.begun.wait, 10)
        gone, stays = (asyncio.create_task(thread.ask(number)) for number in (1, 2))
        await asyncio.sleep(0)
        gone.cancel()
        work.go_on.set()
        async with asyncio.timeout(10):
            return await first, await stays, gone.cancelled()

    assert asyncio.run(ask_all()) == (0, 4, True)
    assert work.groups == [[0], [1, 2]]


def test_each_loop_gets_its_own_answers(doubling):
    """Loops of several threads share the thread, and a loop that is gone is forgotten."""
    work, thread = doubling
    answers = []

    async def give_up():
        asking = asyncio.create_task(thread.ask(7))
        await asyncio.to_thread(work.begun.wait, 10)
        asking.cancel()

    asyncio.run(give_up())
    work.go_on.set()
    threads = [
        threading.Thread(target=lambda n=n: answers.append(asyncio.run(thread.ask(n))))
        for n in range(3)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)

    assert sorted(answers) == [0, 2, 4]


def test_a_closed_thread_starts_again(doubling):
    """Closing answers what was asked, ends the thread, and can be done at any time."""
    work, thread = doubling
    work.go_on.set()
    thread.close()

    first = asyncio.run(thread.ask(1))
    thread.close()
    alive = [each.name for each in threading.enumerate() if each.name == "doubling"]
    second = asyncio.run(thread.ask(2))

    assert (first, second) == (2, 4)
    assert alive == []
