"""What sending requests with one beginning to one replica does for prefix caches.

Twenty tenants, each with instructions of 1,500 tokens, over two replicas whose
caches hold the instructions of some twelve each.  Without affinity each replica
sees all twenty.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from sage_dask.cluster.timed_server import TimedOptions, TimedServerProcess
from sage_dask.endpoint.gauges import parse_samples
from sage_dask.experiments.llm.alone import Alone
from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.load import Load
from sage_dask.experiments.llm.result import Result
from sage_dask.experiments.table import Row

TENANTS = 20
PREFIX_TOKENS = 1500
_BLOCK_TOKENS = 16
# Blocks of a replica's cache: its own ten tenants fit, all twenty do not.
CACHE_BLOCKS = 12 * PREFIX_TOKENS // _BLOCK_TOKENS

_CHARS_PER_TOKEN = 4
_TIMEOUT_S = 10.0
_QUERIES = "vllm:prefix_cache_queries_total"
_HITS = "vllm:prefix_cache_hits_total"

_OPTIONS = TimedOptions(
    seats=16,
    step_s=0.01,
    step_per_sequence_s=0.0002,
    prefill_per_token_s=0.00002,
    prefix_blocks=CACHE_BLOCKS,
)


class Replica(Protocol):
    """A server with metrics, timed or real."""

    @property
    def url(self) -> str:
        """Its root."""
        ...

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        ...


@dataclass(frozen=True, slots=True)
class Cached:
    """Prompt tokens that were looked up in prefix caches, and those of them that were found."""

    queries: float
    hits: float

    @property
    def rate(self) -> float:
        """Share that was found."""
        return self.hits / self.queries if self.queries else 0.0

    def since(self, before: Cached) -> Cached:
        """Return what was added."""
        return Cached(self.queries - before.queries, self.hits - before.hits)


def prefix(bench: Bench) -> Iterator[Row]:
    """Ask two timed servers with affinity and without, each time fresh ones."""
    found: dict[bool, tuple[Cached, Result]] = {}
    for has_affinity in (True, False):
        with ExitStack() as stack:
            servers = [stack.enter_context(TimedServerProcess(_OPTIONS)) for _ in range(2)]
            requests = max(bench.scale.requests // 2, 10 * TENANTS)
            load = Load(
                endpoints=[server.endpoint for server in servers],
                requests=requests,
                tenants=TENANTS,
                prompt_chars=_CHARS_PER_TOKEN * PREFIX_TOKENS,
                has_affinity=has_affinity,
            )
            found[has_affinity] = ask(bench, "timed servers", load, servers)
    yield row("timed servers", found)


def ask(bench: Bench, what: str, load: Load, servers: Sequence[Replica]) -> tuple[Cached, Result]:
    """Run a load, and return what it found in the servers' caches."""
    before = cached(servers)
    result = Alone(load).result()
    found = cached(servers).since(before)
    how = f"{what}, {'with' if load.has_affinity else 'without'} affinity"
    bench.note_run("prefix", how, result, cached=found, seed=load.seed)
    return found, result


def row(what: str, found: dict[bool, tuple[Cached, Result]]) -> Row:
    """Return the row that sets runs with affinity beside those without."""
    (with_it, its_run), (without, other_run) = found[True], found[False]
    return Row(
        f"2 {what}, {TENANTS} prefixes of {PREFIX_TOKENS} tokens",
        f"{with_it.rate:.1%} hit, {its_run.throughput:.0f} records/s",
        f"{without.rate:.1%} hit, {other_run.throughput:.0f}/s without",
        with_it.rate / without.rate if without.rate else float("inf"),
        "more than without affinity",
    )


def cached(servers: Sequence[Replica]) -> Cached:
    """Return the counts of some servers' own metrics, added up."""
    samples = [parse_samples(_metrics(server), (_QUERIES, _HITS)) for server in servers]
    return Cached(
        sum(sum(each.get(_QUERIES, ())) for each in samples),
        sum(sum(each.get(_HITS, ())) for each in samples),
    )


def _metrics(server: Replica) -> str:
    address = f"{server.url}/metrics"
    with urllib.request.urlopen(address, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http only
        text: str = answer.read().decode()
    return text
