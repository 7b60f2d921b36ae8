"""What the experiments ask: prompts, bodies, and the pipeline that sends them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

from sage_dask.experiments.llm.alone import run_here, run_plainly
from sage_dask.experiments.llm.load import Load, Prompts
from sage_dask.testing import FakeChatServer


def test_prompts_are_told_apart_by_their_end():
    """No two are equal, and each has the length that was asked for in front of it."""
    load = Load(endpoints=["http://127.0.0.1:1/v1"], requests=50, prompt_chars=200, tenants=3)

    prompts = [load.prompt(number) for number in load.numbers()]

    assert len(set(prompts)) == 50
    assert len({prompt[:200] for prompt in prompts}) == 3
    assert all(len(prompt) > 200 for prompt in prompts)


def test_tenants_are_drawn_by_the_seed():
    """The same seed asks the same, and another one asks in another order."""
    first, again, other = (
        [load.prompt(number)[:9] for number in range(30)]
        for load in (
            Load(endpoints=[], tenants=5, prompt_chars=50, seed=seed) for seed in (1, 1, 2)
        )
    )

    assert first == again != other


def test_one_prompt_in_so_many_orders_a_fault():
    """The first of each five carries the marker."""
    load = Load(endpoints=[], requests=10, poison="cut", poison_every=5)

    marked = [number for number in range(10) if "[[fault:cut]]" in load.prompt(number)]

    assert marked == [0, 5]


def test_the_last_prompts_may_order_a_fault():
    """From a number on all of them do."""
    load = Load(endpoints=[], requests=6, poison="cut", poison_from=4)

    assert [number for number in range(6) if "[[fault:cut]]" in load.prompt(number)] == [4, 5]


def test_prompts_end_by_time():
    """Without a number they are handed out until the time is over."""
    load = Load(endpoints=[], seconds=0.0)

    assert list(load.numbers()) == []
    assert Prompts(load).size() is None


def test_a_load_travels_as_json():
    """What another process reads is the same load."""
    load = Load(endpoints=["http://127.0.0.1:1/v1"], requests=3, options={"stream": True})

    assert Load(**json.loads(json.dumps(asdict(load)))) == load


def test_plain_and_ours_send_the_same_bodies():
    """The comparison is of the ways, not of what is asked; both are counted alike."""
    with FakeChatServer() as plain, FakeChatServer() as own:
        load = Load(endpoints=[plain.endpoint], requests=9, prompt_chars=40, tenants=2)

        results = run_plainly(load, 3), run_here(replace(load, endpoints=[own.endpoint]))

    def by_text(server):
        return sorted(server.requests, key=lambda body: body["messages"][0]["content"])

    assert by_text(plain) == by_text(own)
    assert plain.most_in_flight <= 3
    for result in results:
        assert (result.read, result.written, result.failed, result.sent) == (9, 9, 0, 9)
        assert result.makespan_s > 0
        assert result.cpu_s > 0


def test_records_are_counted_when_they_are_written():
    """The rows say when how many came, and add up."""
    with FakeChatServer() as server:
        result = run_here(Load(endpoints=[server.endpoint], requests=7))

    times = [at_s for at_s, _ in result.rows]
    assert sum(number for _, number in result.rows) == 7
    assert times == sorted(times)
