"""Service by the clock: strict seats, drawn latencies, and no time lost to a busy machine."""

from __future__ import annotations

import pytest

from sage_dask.cluster.timed_server.fixed import FixedLatency
from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.work import Finished, Produced, Work


def engine_of(**changes):
    return FixedLatency(TimedOptions(**{"latency_s": 1.0, **changes}))


def test_a_request_holds_its_seat_whatever_its_length():
    """Tokens do not matter."""
    engine = engine_of()

    engine.submit(Work("short", 1, 1), 0.0)
    engine.submit(Work("long", 5000, 5000), 0.0)

    assert [event.finished_s for event in engine.advance(9.0)] == [1.0, 1.0]


def test_a_seat_is_taken_again_when_it_falls_free_however_late_one_looks():
    """Seven requests at two seats take four rounds, though nobody looked for ten."""
    engine = engine_of(seats=2)
    for key in range(7):
        engine.submit(Work(key, 1, 1), 0.0)

    ends = [event.finished_s for event in engine.advance(10.0)]

    assert ends == [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0]


def test_seats_are_strict():
    """Never do more run than there are seats."""
    engine = engine_of(seats=2)

    for key in range(5):
        engine.submit(Work(key, 1, 1), 0.0)

    assert (engine.statistics().running, engine.statistics().waiting) == (2, 3)


@pytest.mark.parametrize("spread", ["uniform", "normal"])
def test_latencies_are_drawn_around_the_mean(spread):
    """Mean and spread are those asked for, and equal seeds draw equal latencies."""
    ends = []
    for _ in range(2):
        engine = engine_of(seats=4000, latency_s=4.0, jitter_s=1.0, spread=spread)
        for key in range(4000):
            engine.submit(Work(key, 1, 1), 0.0)
        ends.append([event.finished_s for event in engine.advance(100.0)])

    assert ends[0] == ends[1]
    assert sum(ends[0]) / 4000 == pytest.approx(4.0, abs=0.1)
    widest = 1.0 if spread == "uniform" else 5.0
    assert 4.0 - widest <= min(ends[0]) < 3.2 < 4.8 < max(ends[0]) <= 4.0 + widest


def test_a_cancelled_request_gives_its_seat_to_the_next():
    """The next one starts at once, and the one cancelled is not heard of again."""
    engine = engine_of(seats=1)
    for key in "abc":
        engine.submit(Work(key, 1, 1), 0.0)

    engine.cancel("a", 0.25)
    engine.cancel("c", 0.25)

    assert [(event.key, event.finished_s) for event in engine.advance(9.0)] == [("b", 1.25)]
    assert engine.next_s is None


def test_a_streamed_answer_comes_out_in_even_parts():
    """Parts come at even distances, and together they are the whole answer."""
    engine = engine_of(latency_s=8.0)
    engine.submit(Work("a", 1, 100, is_streamed=True), 0.0)

    halfway = engine.advance(4.0)
    *rest, end = engine.advance(8.0)

    assert halfway == [Produced("a", tokens) for tokens in (13, 25, 38, 50)]
    assert rest[-1] == Produced("a", 100)
    assert isinstance(end, Finished)


def test_prefixes_are_counted_though_they_save_no_time():
    """The counts show how a client sends its prompts."""
    engine = engine_of()

    engine.submit(Work("a", 40, 1, blocks=(1, 2)), 0.0)
    engine.submit(Work("b", 40, 1, blocks=(1, 9)), 0.0)

    assert [event.cached_tokens for event in engine.advance(9.0)] == [0, 16]
    assert engine.statistics().prefix_hits == 16


def test_the_cache_is_as_full_as_what_runs_is_long():
    """Tokens of prompt and answer count while a request runs."""
    engine = engine_of(kv_tokens=10_000)
    engine.submit(Work("a", 2000, 500), 0.0)

    assert engine.statistics().kv_usage == 0.25
    engine.advance(1.0)
    assert engine.statistics().kv_usage == 0.0
