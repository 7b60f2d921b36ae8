"""What holds for both engines, whatever arrives and whenever one looks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.cluster.timed_server.engine import ContinuousBatching
from sage_dask.cluster.timed_server.fixed import FixedLatency
from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.work import Finished, Produced, Work

SEATS = 3
KV_TOKENS = 128

ENGINES = [
    pytest.param(ContinuousBatching, {}, id="tokens"),
    pytest.param(FixedLatency, {"latency_s": 1.0, "jitter_s": 0.5}, id="fixed"),
]

works = st.builds(
    Work,
    key=st.none(),
    prompt_tokens=st.integers(1, 60),
    answer_tokens=st.integers(1, 40),
    blocks=st.lists(st.integers(0, 2), max_size=3).map(tuple),
    is_streamed=st.booleans(),
)
# (seconds since the one before, what arrives, seconds after which it is given up)
arrivals = st.lists(
    st.tuples(st.floats(0, 0.5), works, st.none() | st.floats(0, 1.0)), min_size=1, max_size=12
)


def engine_of(kind, settings):
    return kind(
        TimedOptions(
            seats=SEATS,
            kv_tokens=KV_TOKENS,
            max_model_len=KV_TOKENS,
            max_batched_tokens=48,
            step_s=0.05,
            prefix_blocks=4,
            **settings,
        )
    )


def history(arrivals):
    """Return (time, what happens, key, work) in order of time."""
    now_s, happenings = 0.0, []
    for key, (gap_s, work, patience_s) in enumerate(arrivals):
        now_s += gap_s
        happenings.append((now_s, "submit", key, work))
        if patience_s is not None:
            happenings.append((now_s + patience_s, "cancel", key, work))
    return sorted(happenings, key=lambda each: each[0])


def play(engine, happenings, looks=()):
    """Live through a history, looking in between as well; return all events and those given up."""
    events, given_up = [], set()
    times = [(at_s, None) for at_s in looks] + [(each[0], each) for each in happenings]
    for now_s, happening in sorted(times, key=lambda each: each[0]):
        events += told(engine, now_s)
        if happening is None:
            continue
        _, word, key, work = happening
        if word == "submit":
            engine.submit(Work(key, *_rest(work)), now_s)
        elif not any(isinstance(e, Finished) and e.key == key for e in events):
            engine.cancel(key, now_s)
            given_up.add(key)
        check(engine)
    while engine.next_s is not None:
        events += told(engine, engine.next_s)
    return events, given_up


def _rest(work):
    return work.prompt_tokens, work.answer_tokens, work.blocks, work.is_streamed


def told(engine, now_s):
    events = engine.advance(now_s)
    check(engine)
    assert engine.next_s is None or engine.next_s > now_s
    return events


def check(engine):
    counts = engine.statistics()
    assert 0 <= counts.running <= SEATS
    assert 0.0 <= counts.kv_usage <= 1.0
    assert counts.prefix_hits <= counts.prefix_queries
    assert counts.running or not counts.waiting or engine.next_s is not None


@pytest.mark.parametrize(("kind", "settings"), ENGINES)
@given(arrivals=arrivals)
def test_everything_ends_once_and_in_good_order(kind, settings, arrivals):
    """All that is not given up is finished once, after it started, after it arrived."""
    engine = engine_of(kind, settings)
    happenings = history(arrivals)

    events, given_up = play(engine, happenings)

    ends = [event for event in events if isinstance(event, Finished)]
    assert sorted(e.key for e in ends) == sorted(set(range(len(arrivals))) - given_up)
    for end in ends:
        assert end.arrived_s <= end.started_s <= end.first_token_s <= end.finished_s
    assert [e.finished_s for e in ends] == sorted(e.finished_s for e in ends)
    counts = engine.statistics()
    assert (counts.running, counts.waiting, counts.kv_usage) == (0, 0, 0.0)


@pytest.mark.parametrize(("kind", "settings"), ENGINES)
@given(arrivals=arrivals, looks=st.lists(st.floats(0, 10), max_size=20))
def test_looking_more_often_changes_nothing(kind, settings, arrivals, looks):
    """The same history gives the same events, however unevenly the clock is looked at."""
    happenings = history(arrivals)

    seldom, _ = play(engine_of(kind, settings), happenings)
    often, _ = play(engine_of(kind, settings), happenings, looks)

    assert often == seldom


@pytest.mark.parametrize(("kind", "settings"), ENGINES)
@given(arrivals=arrivals)
def test_who_arrives_first_starts_first(kind, settings, arrivals):
    """Nobody overtakes in the queue."""
    engine = engine_of(kind, settings)

    events, _ = play(engine, history(arrivals))

    ends = [event for event in events if isinstance(event, Finished)]
    assert sorted(ends, key=lambda e: e.key) == sorted(ends, key=lambda e: (e.started_s, e.key))


@pytest.mark.parametrize(("kind", "settings"), ENGINES)
@given(arrivals=arrivals)
def test_streams_grow_to_their_whole_length(kind, settings, arrivals):
    """Tokens told of a streamed answer only grow, and the last word is all of it."""
    engine = engine_of(kind, settings)

    events, given_up = play(engine, history(arrivals))

    for key, (_, work, _) in enumerate(arrivals):
        tokens = [e.tokens for e in events if isinstance(e, Produced) and e.key == key]
        assert tokens == sorted(tokens)
        if key not in given_up:
            assert tokens[-1:] == ([work.answer_tokens] if work.is_streamed else [])
