"""Continuous batching: how long things take, and who gives way when memory is short."""

from __future__ import annotations

import pytest

from sage_dask.cluster.timed_server.engine import ContinuousBatching
from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.work import Finished, Produced, Work


def engine_of(**changes):
    """Return an engine whose step takes a second, whatever is in it."""
    settings = {
        "step_s": 1.0,
        "step_per_sequence_s": 0.0,
        "prefill_per_token_s": 0.0,
        "max_model_len": 64,
        **changes,
    }
    return ContinuousBatching(TimedOptions(**settings))


def finished(engine, until_s=1e6):
    """Return when each sequence was done, by its key."""
    return {
        event.key: event.finished_s
        for event in engine.advance(until_s)
        if isinstance(event, Finished)
    }


def test_an_answer_takes_a_step_per_token_and_its_prompt_the_first():
    """One sequence: the first step takes the prompt in, and each step gives one token."""
    engine = engine_of(step_s=1.0, step_per_sequence_s=0.5, prefill_per_token_s=0.01)

    engine.submit(Work("a", prompt_tokens=20, answer_tokens=4), 0.0)

    assert finished(engine) == {"a": pytest.approx(4 * 1.5 + 20 * 0.01)}


def test_a_step_takes_longer_for_each_sequence_in_it():
    """Two sequences that start together share steps, and each makes them longer."""
    engine = engine_of(step_s=1.0, step_per_sequence_s=0.25)
    engine.submit(Work("first", 1, 1), 0.0)

    engine.submit(Work("a", 1, 2), 0.0)
    engine.submit(Work("b", 1, 2), 0.0)

    # "first" was alone in the step that was under way when the others came.
    assert finished(engine) == {"first": 1.25, "a": 1.25 + 3.0, "b": 1.25 + 3.0}


def test_who_comes_within_a_step_joins_the_next():
    """A batch changes between steps only."""
    engine = engine_of()
    engine.submit(Work("a", 1, 3), 0.0)
    engine.advance(0.5)

    engine.submit(Work("b", 1, 1), 0.5)

    assert finished(engine) == {"a": 3.0, "b": 2.0}


def test_more_sequences_than_seats_wait_in_order():
    """At two seats, the third starts when the first is done, and queues until then."""
    engine = engine_of(seats=2)
    for key, tokens in (("a", 2), ("b", 3), ("c", 1)):
        engine.submit(Work(key, 1, tokens), 0.0)
    engine.advance(1.0)

    assert (engine.statistics().running, engine.statistics().waiting) == (2, 1)
    assert finished(engine) == {"a": 2.0, "c": 3.0, "b": 4.0}


def test_a_long_prompt_is_taken_in_over_several_steps():
    """What exceeds the tokens of a step goes into the next ones, and others wait for it."""
    engine = engine_of(max_batched_tokens=10)

    engine.submit(Work("long", 25, 1), 0.0)
    engine.submit(Work("short", 1, 1), 0.0)

    # The third step has five tokens left for the other prompt.
    assert finished(engine) == {"long": 3.0, "short": 3.0}


def test_short_memory_sends_the_newest_back_to_compute_its_tokens_again():
    """Two sequences that together outgrow the cache: the newer one waits, and loses nothing."""
    engine = engine_of(kv_tokens=64)
    engine.submit(Work("old", 16, 32), 0.0)
    engine.submit(Work("new", 16, 32), 0.0)

    done = finished(engine)

    # It ends late, as it could only go on when the older one was done.
    assert done["old"] == 32.0
    assert done["new"] > 33.0
    assert engine.statistics().preemptions == 1
    assert engine.statistics().kv_usage == 0.0


def test_who_was_sent_back_goes_on_before_those_who_wait():
    """It arrived before them, and has waited already."""
    engine = engine_of(kv_tokens=64, seats=2)
    for key, tokens in (("old", 32), ("new", 32), ("third", 1)):
        engine.submit(Work(key, 16, tokens), 0.0)

    done = finished(engine)

    assert engine.statistics().preemptions == 1
    # There was a free block for the third all along.
    assert done["third"] > done["old"]


def test_nobody_joins_in_the_step_in_which_memory_was_short():
    """What one gave up is for those who run; who joined would be the next to give up."""
    engine = engine_of(kv_tokens=64, max_batched_tokens=17)
    engine.submit(Work("old", 16, 32), 0.0)
    engine.submit(Work("new", 16, 32), 0.0)
    at_s = 0.0
    while not engine.statistics().preemptions:
        at_s += 1.0
        engine.advance(at_s)

    # A part of its prompt, as long as a step allows, would fit the block that is left.
    assert (engine.statistics().running, engine.statistics().waiting) == (1, 1)


def test_a_waiting_prompt_that_does_not_fit_keeps_those_behind_it_waiting():
    """Memory is given in order of arrival, so that a long prompt is not overtaken for ever."""
    engine = engine_of(kv_tokens=64)
    engine.submit(Work("running", 40, 3), 0.0)
    engine.submit(Work("long", 40, 1), 0.0)
    engine.submit(Work("short", 1, 1), 0.0)

    done = finished(engine)

    assert done == {"running": 3.0, "long": 4.0, "short": 4.0}


def test_known_prefixes_are_neither_computed_nor_counted_as_missed():
    """The second of two equal prompts computes the rest alone; its last block is left."""
    engine = engine_of(prefill_per_token_s=1.0)
    engine.submit(Work("a", 48, 1, blocks=(1, 2, 3)), 0.0)
    engine.advance(100.0)

    engine.submit(Work("b", 48, 1, blocks=(1, 2, 3)), 100.0)
    (event,) = engine.advance(1e3)

    assert event.cached_tokens == 32
    assert event.finished_s == 100 + 1 + 16
    assert (engine.statistics().prefix_queries, engine.statistics().prefix_hits) == (96, 32)


def test_a_streamed_sequence_tells_of_every_token():
    """Each token is an event, the last one before the end."""
    engine = engine_of()

    engine.submit(Work("a", 1, 3, is_streamed=True), 0.0)

    *produced, end = engine.advance(10.0)
    assert produced == [Produced("a", 1), Produced("a", 2), Produced("a", 3)]
    assert isinstance(end, Finished)
    assert (end.first_token_s, end.finished_s) == (1.0, 3.0)


def test_a_prompt_without_an_answer_is_done_when_it_is_read():
    """Embeddings take the time of their prompt."""
    engine = engine_of(prefill_per_token_s=0.5)

    engine.submit(Work("a", 4, 0), 0.0)

    assert finished(engine) == {"a": 1.0 + 2.0}


@pytest.mark.parametrize("key", ["running", "waiting"])
def test_a_cancelled_sequence_makes_room(key):
    """Nothing is told of it any more, and its seat and memory are free."""
    engine = engine_of(seats=1)
    engine.submit(Work("running", 16, 8), 0.0)
    engine.submit(Work("waiting", 16, 8), 0.0)
    engine.advance(2.0)

    engine.cancel(key, 2.0)

    assert set(finished(engine)) == {"running", "waiting"} - {key}
    assert engine.statistics().kv_usage == 0.0


def test_what_can_never_fit_is_refused():
    """A sequence larger than the whole cache would wait for ever."""
    with pytest.raises(ValueError, match=r"60 \+ 40 tokens does not fit"):
        engine_of(kv_tokens=64).submit(Work("a", 60, 40), 0.0)


def test_it_tells_how_full_it_is():
    """The state is in the representation."""
    engine = engine_of(seats=4)
    engine.submit(Work("a", 1, 3), 0.0)

    assert repr(engine).startswith("<ContinuousBatching 1/4 running, 0 waiting")
