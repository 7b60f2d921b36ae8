"""Slots on their way from the dispatcher to real workers, and reports on their way back."""

from __future__ import annotations

import asyncio

import pytest
from dask import annotate
from distributed import Worker, get_worker

from sage_dask import aio
from sage_dask.scheduling.on_dask import worker_slots
from sage_dask.scheduling.on_dask.worker_slots import secede, slots_of
from tests.scheduling.on_dask.live import control_of, live_cluster, plugin_of, until

URL = "http://127.0.0.1:1/v1"

RUNNING: dict[str, asyncio.Event] = {}
"""Requests under way, by the name of their task; the event answers them."""


@pytest.fixture
def cluster():
    """Lend two workers of one thread each, which have never met a dispatcher."""
    with live_cluster(2, 1) as cluster:
        yield cluster


@pytest.fixture
def control(client):
    """Lend a dispatcher."""
    with control_of(client) as control:
        yield control
        for each in list(RUNNING.values()):
            aio.background_loop().call_soon_threadsafe(each.set)


async def send(name: str, job: str, key: str) -> str:
    """Stand for a task of one request: secede, wait for a slot, then for the answer."""
    worker = get_worker()
    secede(worker, key)
    return await asyncio.wrap_future(aio.submit(_request(worker, name, job, key)))


async def _request(worker: Worker, name: str, job: str, key: str) -> str:
    slots = slots_of(worker)
    slots.entered(key)
    slot = await slots.acquire([URL], job, key)
    RUNNING[name] = asyncio.Event()
    await RUNNING[name].wait()
    del RUNNING[name]
    slot.release("ok", 0.1)
    slots.left(key)
    return str(worker.name)


def ask(client, name, *, job="1", limit=4, requests=1, **where):
    """Submit a task that sends one request."""
    said = {"job": job, "pipeline": "rag", "stage": "ask", "threads": 0, "requests": requests}
    with annotate(sage={**said, "endpoints": {URL: (limit, 512)}}):
        return client.submit(send, name, f"rag/{job}", name, key=name, pure=False, **where)


def answer(name):
    """Answer the request of a task."""
    aio.background_loop().call_soon_threadsafe(RUNNING[name].set)


def running(*names):
    """Return whether exactly these requests are under way."""
    return lambda: set(RUNNING) == set(names)


def test_requests_run_within_the_limit_and_beyond_the_threads(cluster, client, control):
    """Six tasks on two threads: four requests are under way, and the rest as those end."""
    names = [f"t{number}" for number in range(6)]
    futures = [ask(client, name) for name in names]
    until(cluster, lambda: len(RUNNING) == 4)
    first = sorted(RUNNING)

    for name in first:
        answer(name)
    until(cluster, lambda: len(RUNNING) == 2 and not set(RUNNING) & set(first))
    for name in sorted(RUNNING):
        answer(name)

    assert {future.result(30) for future in futures} == {"0", "1"}


def test_workers_are_told_only_after_they_have_spoken(cluster, client, control):
    """A message that a worker does not know would break its connection."""
    traffic = plugin_of(cluster).traffic
    assert not traffic._linked

    future = ask(client, "one")
    until(cluster, running("one"))

    assert len(traffic._linked) == 1
    answer("one")
    future.result(30)


def test_slots_of_a_cancelled_job_come_free_when_its_requests_end(cluster, client, control):
    """Until then they count, and afterwards they are the other's."""
    cancelled = ask(client, "mine", limit=1)
    until(cluster, running("mine"))
    kept = ask(client, "other", job="2", limit=1)
    client.cancel([cancelled])
    until(cluster, lambda: plugin_of(cluster).dispatcher.ledger.abandoned)
    assert "other" not in RUNNING

    answer("mine")

    until(cluster, running("other"))
    answer("other")
    kept.result(30)


def test_a_dispatcher_that_begins_anew_keeps_limits_and_counts(cluster, client, control):
    """Rebuilt in mid-run, it allots as before, and what waits gets its turn."""
    futures = [ask(client, name, limit=2) for name in ("a", "b", "c")]
    until(cluster, lambda: len(RUNNING) == 2)
    plugin = plugin_of(cluster)

    cluster.sync(_call, plugin.rebuild)
    assert plugin.dispatcher.servers.statistics()[URL].limit == 2
    while not all(future.done() for future in futures):
        for name in list(RUNNING):
            answer(name)
        cluster.sync(asyncio.sleep, 0.005)

    plugin.dispatcher.validate()


def test_detaching_lets_workers_send_what_they_like(cluster, client, control):
    """Nobody will allot them anything any more, so what waits must not wait for ever."""
    futures = [ask(client, name, limit=1) for name in ("a", "b")]
    until(cluster, lambda: len(RUNNING) == 1)

    control.detach()

    until(cluster, running("a", "b"))
    for name in ("a", "b"):
        answer(name)
    assert [future.result(30) for future in futures]


def test_a_worker_that_no_dispatcher_ever_heard_of_sends_what_it_likes(
    cluster, client, control, monkeypatch
):
    """Its first request comes after the dispatcher has left: it asks, and nobody is there."""
    monkeypatch.setattr(worker_slots, "_ALIVE_S", 0.05)
    first, second = (worker.address for worker in cluster.workers.values())
    futures = [ask(client, "a", limit=1, workers=[first])]
    until(cluster, running("a"))

    control.detach()
    futures.append(ask(client, "b", limit=1, workers=[second]))

    until(cluster, running("a", "b"))
    for name in ("a", "b"):
        answer(name)
    assert [future.result(30) for future in futures]


async def _call(function):
    function()
