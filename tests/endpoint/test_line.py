"""The order in which waiting requests get the slots that come free."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.line import MOST_OVERTAKEN, MOST_REGROUPED, Line, Queue, Waiter
from sage_dask.endpoint.routing import preferred, prefix_key

_AB = ("http://a/v1", "http://b/v1")
_A, _B = _AB
_KEYS = [prefix_key(f"prefix {number}") for number in range(40)]
_KEYS_OF = {endpoint: [key for key in _KEYS if preferred(key, _AB) == endpoint] for endpoint in _AB}


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Lend a loop for the futures; it never runs."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def _add(line: Line, loop: asyncio.AbstractEventLoop, *keys: bytes | None) -> list[Waiter]:
    waiters = [Waiter(number, None, loop.create_future(), key) for number, key in enumerate(keys)]
    for waiter in waiters:
        line.add(waiter)
    return waiters


def _take(line: Line, endpoint: str, after: bytes | None = None) -> Waiter:
    waiter = line.next_for(endpoint, after)
    line.remove(waiter)
    return waiter


def test_without_prefixes_it_is_first_come_first_served(loop):
    """Nobody prefers anything, so nobody is overtaken."""
    line = Line(_AB)
    waiters = _add(line, loop, None, None, None)

    assert [_take(line, endpoint) for endpoint in (_B, _A, _B)] == waiters


def test_a_slot_goes_to_the_first_who_prefers_its_replica(loop):
    """Both replicas get their own prefixes, each in the order of arrival."""
    line = Line(_AB)
    key_a, key_b = _KEYS_OF[_A][0], _KEYS_OF[_B][0]
    first_a, second_a, first_b, second_b = _add(line, loop, key_a, key_a, key_b, key_b)

    assert _take(line, _B) is first_b
    assert _take(line, _A) is first_a
    assert _take(line, _A) is second_a
    assert _take(line, _B) is second_b


def test_a_slot_that_nobody_prefers_goes_to_the_oldest(loop):
    """Affinity never leaves a slot idle."""
    line = Line(_AB)
    first, second = _add(line, loop, *_KEYS_OF[_A][:2])

    assert _take(line, _B) is first
    assert _take(line, _B) is second


def test_who_has_no_prefix_is_as_welcome_as_who_prefers_the_replica(loop):
    """Among the two the older one is served."""
    line = Line(_AB)
    stranger, plain, home = _add(line, loop, _KEYS_OF[_B][0], None, _KEYS_OF[_A][0])

    assert _take(line, _A) is plain
    assert _take(line, _A) is home
    assert _take(line, _A) is stranger


def test_the_prefix_that_was_sent_last_is_sent_again(loop):
    """Requests of one prefix follow one another while it is in the cache."""
    line = Line(_AB)
    one, other = _KEYS_OF[_A][:2]
    _, second, third = _add(line, loop, other, one, one)

    assert _take(line, _A, after=one) is second
    assert _take(line, _A, after=one) is third
    assert _take(line, _A, after=one).key == other


def test_a_prefix_at_home_elsewhere_is_not_kept_here(loop):
    """What came for want of better ends with itself."""
    line = Line(_AB)
    stranger, home = _add(line, loop, _KEYS_OF[_B][0], _KEYS_OF[_A][0])

    assert _take(line, _A, after=stranger.key) is home


def test_grouping_by_prefix_is_bounded(loop):
    """A popular prefix passes another request so many times and no more."""
    line = Line(_AB)
    popular, other = _KEYS_OF[_A][:2]
    waiters = _add(line, loop, other, *[popular] * 100)

    taken = [_take(line, _A, after=popular) for _ in range(MOST_REGROUPED + 1)]

    assert taken[-1] is waiters[0]


def test_being_overtaken_is_bounded(loop):
    """With only the other replica serving, a request goes there after 64 others."""
    line = Line(_AB)
    waiters = _add(line, loop, _KEYS_OF[_A][0], *[_KEYS_OF[_B][0]] * 200)

    taken = [_take(line, _B) for _ in range(MOST_OVERTAKEN + 1)]

    assert taken[-1] is waiters[0]
    assert waiters[0] not in taken[:-1]


def test_a_replica_that_can_not_be_used_is_not_preferred(loop):
    """Its requests prefer another at once, and it again when it is back."""
    line = Line(_AB)
    key = _KEYS_OF[_A][0]
    first, second, third = _add(line, loop, key, _KEYS_OF[_B][0], key)

    line.use((_B,))
    assert [waiter.favourite for waiter in line] == [_B, _B, _B]
    assert _take(line, _B) is first
    line.use(_AB)

    assert _take(line, _A) is third
    assert _take(line, _B) is second


def test_with_nothing_to_use_all_replicas_are_preferred_as_ever(loop):
    """Who waits out an outage goes where its prefix is afterwards."""
    line = Line(_AB)
    (waiter,) = _add(line, loop, _KEYS_OF[_B][0])

    line.use(())

    assert waiter.favourite == _B


def test_leaving_twice_is_leaving(loop):
    """A request that was cancelled while its slot was on the way is no longer here."""
    line = Line(_AB)
    (waiter,) = _add(line, loop, _KEYS_OF[_B][0])

    line.discard(waiter)
    line.discard(waiter)

    assert len(line) == 0


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("come"), st.integers(-1, 5)),
            st.tuples(st.just("take"), st.sampled_from(_AB)),
            st.tuples(st.just("leave"), st.integers(0, 100)),
            st.tuples(st.just("use"), st.sampled_from([_AB, (_A,), (_B,), ()])),
        ),
        max_size=400,
    ),
    bursts=st.integers(1, 30),
)
def test_nobody_is_overtaken_more_often_than_the_bound(loop, steps, bursts):
    """Whoever comes, leaves and is served: counted one by one, the bound holds."""
    line = Line(_AB)
    overtaken: dict[Waiter, int] = {}
    last: dict[str, bytes | None] = {}
    for number, (what, which) in enumerate(steps):
        if what == "come":
            for place in range(bursts):
                key = None if which < 0 else _KEYS[which]
                waiter = Waiter(number * 100 + place, None, loop.create_future(), key)
                line.add(waiter)
                overtaken[waiter] = 0
        elif what == "use":
            line.use(which)
        elif not overtaken:
            continue
        elif what == "leave":
            waiter = list(overtaken)[which % len(overtaken)]
            line.remove(waiter)
            del overtaken[waiter]
        else:
            for _ in range(min(bursts, len(overtaken))):
                waiter = _take(line, which, last.get(which))
                last[which] = waiter.key
                del overtaken[waiter]
                for other in overtaken:
                    overtaken[other] += other.number < waiter.number

        assert len(line) == len(overtaken)
        assert list(line) == list(overtaken)
        assert max(overtaken.values(), default=0) <= MOST_OVERTAKEN


def test_texts_tell_the_state(loop):
    """Queue and line say how many wait, and how often the first was overtaken."""
    line, queue = Line(_AB), Queue()
    for waiter in _add(line, loop, _KEYS_OF[_A][0], _KEYS_OF[_B][0]):
        queue.add(waiter)
    _take(line, _B)

    assert repr(line) == "<Line: 1 waiting, first overtaken 1 times>"
    assert repr(queue) == "<Queue 2 waiting, first overtaken 0 times>"
