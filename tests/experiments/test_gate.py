"""The adaptive limit on simulated servers; the whole table is an experiment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage_dask.experiments.gate import (
    BENCH,
    KV_BOUND,
    adaptive_run,
    fewer_seats,
    outage,
    recovery_s,
    slowdown,
    steady,
    wall_s,
)
from sage_dask.experiments.simulated_server import Server, Shape
from sage_dask.experiments.simulated_traffic import Client, Run
from sage_dask.scheduling.adaptive import AdaptiveLimit


def test_five_thousand_requests_take_a_twentieth_more_than_the_ideal():
    """The search for the limit included: 400 ms each on 64 seats are 31.25 s."""
    assert wall_s(AdaptiveLimit()) <= 1.05 * 5_000 * 0.4 / 64


@pytest.mark.parametrize("gauge_age_s", [0.0, 1.0])
@pytest.mark.parametrize(
    ("shape", "seats"),
    [
        (Shape(seats=4), 4),
        (Shape(seats=16), 16),
        (BENCH, 64),
        (Shape(seats=256), 256),
        (KV_BOUND, 45),
        (Shape(seats=64, step_s=0.005, tokens=(80, 20)), 64),
        (Shape(seats=64, step_per_sequence_s=0.0005, prefill_per_token_s=2e-5), 64),
    ],
)
def test_the_limit_is_found_within_a_tenth(shape, seats, gauge_age_s):
    """And what waits at the server stays small."""
    run = steady(adaptive_run(shape, 100, gauge_age_s=gauge_age_s))

    assert abs(run.total - seats) <= max(0.1 * seats, 0.6)
    assert run.waiting <= 0.1 * seats + 4


def test_requests_of_ten_seconds_are_no_harder():
    """What is seen of a change comes late, and the limit does not swing."""
    shape = Shape(seats=16, tokens=(500, 100))

    run = adaptive_run(shape, 200)

    slots = [second.slots[0] for second in run.seconds[100:]]
    assert 14 <= min(slots) <= max(slots) <= 20


def test_short_answers_do_not_pass_for_a_queue():
    """A fifth of what is under way waits for the next step; a gauge alone would stop at 12."""
    run = steady(adaptive_run(Shape(seats=64, tokens=(5, 1)), 60))

    assert run.total >= 60


@pytest.mark.parametrize("starts_s", [[0.0, 0.37], [0.0, 60.0], [0.37 * n for n in range(8)]])
def test_limits_that_share_a_server_become_equal(starts_s):
    """Two, two of which one comes late, and eight."""
    run = steady(adaptive_run(BENCH, 240, starts_s=starts_s))

    assert run.jain >= 0.95
    assert run.waiting <= 0.1 * 64 + 4
    assert run.tokens_per_s >= 0.97 * 64 / 0.02


@pytest.mark.parametrize(
    ("events", "most_s"), [(slowdown(4), 15), (fewer_seats(16), 15), (outage(), 40)]
)
def test_a_disturbance_is_forgotten_soon(events, most_s):
    """Brown-outs of two kinds and an outage, ten seconds each."""
    run = adaptive_run(BENCH, 120, events=events)

    assert recovery_s(run, ended_s=70) <= most_s


def test_refusals_alone_keep_it_near_what_the_server_takes():
    """A server without gauges that turns away what is above 68 requests."""
    server = Server(replace(BENCH, queue_limit=68))
    run = Run(server, [Client(AdaptiveLimit(), sees_gauges=False)]).until(120)

    assert 60 <= steady(run).total <= 75


def test_the_server_gives_each_sequence_a_token_per_step():
    """Sixty-four seats and steps of 20 ms are 3,200 tokens a second, and what comes in is done."""
    run = Run(Server(BENCH), [Client(80)], requests=1_000).until(1_000)

    assert run.clients[0].num_ok == 1_000
    assert run.server.is_idle
    assert steady(Run(Server(BENCH), [Client(80)]).until(20)).tokens_per_s == 3_200


def test_what_is_turned_away_is_sent_again():
    """Every request is answered in the end, whatever the server refused or lost."""
    server = Server(replace(BENCH, queue_limit=70))
    events = [(1.0, lambda server: setattr(server, "is_down", True))]
    events += [(2.0, lambda server: setattr(server, "is_down", False))]

    run = Run(server, [Client(80)], events, requests=500).until(1_000)

    assert run.clients[0].num_ok == 500
    assert run.clients[0].num_failed > 64
    assert run.clients[0].in_flight == 0


def test_a_full_cache_preempts_and_loses_nobody():
    """What was sent back to the queue is answered in the end, and the cache is empty again."""
    run = Run(Server(KV_BOUND), [Client(90)], requests=300).until(1_000)

    assert run.server.num_preempted > 0
    assert run.clients[0].num_ok == 300
    assert run.server.gauges().kv_usage == 0


def test_the_same_seed_gives_the_same_run():
    """Nothing depends on this machine."""
    first, second = (adaptive_run(BENCH, 10).seconds for _ in range(2))

    assert first == second
