"""Asking a cluster: its scheduler, and one worker of each node, all at the same time.

Each question has its own few seconds, so that a machine that hangs costs its own
answer and no other.
"""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import dask
from distributed import Client

from sage_dask.dask_runner import client_of
from sage_dask.doctor.clocks import Offset, Sample, offset_of
from sage_dask.doctor.questions.host import HostAnswer, look_around
from sage_dask.doctor.questions.scheduler import Registered, SchedulerAnswer, look_inside
from sage_dask.doctor.servers import ServerQuestion
from sage_dask.doctor.workers import WorkerFacts
from sage_dask.nodes import NODE, node_name
from sage_dask.reach import CONNECT_S, reach

T = TypeVar("T")

# A model server has five seconds to answer a worker, and the worker then has to tell.
_ANSWER_S = 8.0
_PAGE_S = 3.0
# The quickest of a few round trips tells most.
_NUM_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class ClusterAnswer:
    """What a cluster told; an exception stands where somebody told nothing."""

    address: str
    connect_ms: float
    scheduler: SchedulerAnswer | Exception
    workers: Sequence[WorkerFacts]
    hosts: Mapping[str, HostAnswer | Exception]
    """By node."""
    offsets: Mapping[str, Offset]
    """By node, and of the scheduler; those that did not tell their time are left out."""
    dashboard_url: str = ""
    """Where the dashboard was asked for; empty where the scheduler has no HTTP server."""
    dashboard_fault: str = ""


def ask_cluster(address: str, questions: Sequence[ServerQuestion]) -> ClusterAnswer:
    """Return what a cluster tells within seconds.

    Args:
        address: Of its scheduler.
        questions: Model servers that its machines are to ask.

    Raises:
        RunError: No scheduler answers there.
    """
    started = time.perf_counter()
    reach(address)
    connect_ms = 1000 * (time.perf_counter() - started)
    with _connected(address) as client:
        answer: ClusterAnswer = client.sync(_ask, client, connect_ms, list(questions))
        return answer


def told_gates(answer: ClusterAnswer) -> Mapping[str, float]:
    """Return the limits of gates that a cluster's dispatcher told; none where it told nothing."""
    if isinstance(answer.scheduler, Exception) or answer.scheduler.facts.dispatching is None:
        return {}
    return answer.scheduler.facts.dispatching.gates


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    with (
        dask.config.set({"distributed.comm.timeouts.connect": f"{CONNECT_S:g}s"}),
        client_of(address) as client,
    ):
        yield client


async def _ask(client: Client, connect_ms: float, questions: list[ServerQuestion]) -> ClusterAnswer:
    identity = await asyncio.wait_for(client.scheduler.identity(n_workers=-1), _ANSWER_S)
    known: Mapping[str, Any] = identity["workers"]
    places = {_node(worker): address for address, worker in sorted(known.items(), reverse=True)}
    url = _dashboard(identity)
    scheduler, fault, hosts = await asyncio.gather(
        _answer(client._run_on_scheduler(look_inside, [each.endpoint for each in questions])),
        asyncio.to_thread(_page_fault, url),
        _each(places, lambda address: _on_worker(client, address, look_around, questions)),
    )
    # After the others, which would keep the machines from answering at once, and without those
    # that gave no answer.
    there = {node: at for node, at in places.items() if not isinstance(hosts[node], TimeoutError)}
    offsets = await _offsets(client, there)
    registered = scheduler.workers if isinstance(scheduler, SchedulerAnswer) else {}
    return ClusterAnswer(
        address=identity["address"],
        connect_ms=connect_ms,
        scheduler=scheduler,
        workers=[_worker(each, registered.get(address)) for address, each in known.items()],
        hosts=hosts,
        offsets=offsets,
        dashboard_url=url,
        dashboard_fault=fault,
    )


async def _answer(question: Awaitable[T]) -> T | Exception:
    """Return an answer, or why there is none in time."""
    try:
        return await asyncio.wait_for(question, _ANSWER_S)
    except TimeoutError:
        return TimeoutError(f"no answer within {_ANSWER_S:g} s")
    except Exception as error:
        return error


async def _each(
    places: Mapping[str, str], ask: Callable[[str], Awaitable[T]]
) -> dict[str, T | Exception]:
    """Ask a worker of each node at the same time."""
    answers = await asyncio.gather(*(_answer(ask(address)) for address in places.values()))
    return dict(zip(places, answers, strict=True))


async def _on_worker(client: Client, address: str, function: Any, *arguments: Any) -> Any:
    results = await client._run(function, *arguments, workers=[address])
    return results[address]


async def _offsets(client: Client, places: Mapping[str, str]) -> dict[str, Offset]:
    """Return how far clocks are off; ``time.time`` is there whatever else a machine lacks."""
    asked: dict[str, Awaitable[Offset | Exception]] = {
        "the scheduler": _answer(_offset(lambda: client._run_on_scheduler(time.time))),
        **{
            node: _answer(_offset(lambda at=address: _on_worker(client, at, time.time)))  # type: ignore[misc]
            for node, address in places.items()
        },
    }
    found = dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))
    return {name: each for name, each in found.items() if isinstance(each, Offset)}


async def _offset(ask: Callable[[], Awaitable[float]]) -> Offset:
    samples = []
    for _ in range(_NUM_SAMPLES):
        asked_s = time.time()
        there_s = await ask()
        samples.append(Sample(asked_s, there_s, time.time()))
    return offset_of(samples)


def _node(worker: Mapping[str, Any]) -> str:
    return node_name(worker.get(NODE), worker["host"])


def _worker(worker: Mapping[str, Any], registered: Registered | None) -> WorkerFacts:
    return WorkerFacts(
        name=str(worker["name"]),
        node=_node(worker),
        threads=worker["nthreads"],
        memory_limit=worker["memory_limit"] or 0,
        memory_used=worker["metrics"].get("memory", 0),
        is_paused=worker["status"] == "paused",
        silent_s=None if registered is None else registered.silent_s,
        resources=worker["resources"],
        versions={} if registered is None else registered.versions,
    )


def _dashboard(identity: Mapping[str, Any]) -> str:
    port = identity["services"].get("dashboard")
    host = urlsplit(identity["address"]).hostname
    return f"http://{f'[{host}]' if ':' in (host or '') else host}:{port}/status" if port else ""


def _page_fault(url: str) -> str:
    """Return what was answered in place of a page; empty where there was one."""
    if not url:
        return ""
    try:
        # The scheme is ours.
        with urllib.request.urlopen(url, timeout=_PAGE_S):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"GET {urlsplit(url).path} is answered {error.code}"
    except OSError as error:
        return str(getattr(error, "reason", error))
