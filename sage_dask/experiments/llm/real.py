"""Ours against plain asyncio on a real vLLM, which serves a tiny random model on the CPU.

The plain client is given the best of four concurrencies, which nobody knows
beforehand; ours finds its own, and is also told that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from statistics import median

from sage_dask.cluster import ModelServer, VllmOptions
from sage_dask.cluster.tiny_model import tiny_model, tiny_words
from sage_dask.cluster.vllm_command import find_python
from sage_dask.errors import MissingDependencyError
from sage_dask.experiments.llm.alone import Alone
from sage_dask.experiments.llm.bench import Bench
from sage_dask.experiments.llm.load import Load
from sage_dask.experiments.llm.prefix import CACHE_BLOCKS, PREFIX_TOKENS, TENANTS, Cached, ask
from sage_dask.experiments.llm.prefix import row as prefix_row
from sage_dask.experiments.llm.result import Result
from sage_dask.experiments.table import Row

CONCURRENCIES = (8, 16, 32, 64)
SEATS = 64
ANSWER_TOKENS = 32

# Float32 keys and values of the tiny model: two layers, one head of 64.
_KV_BYTES_PER_TOKEN = 2 * 2 * 64 * 4
_BLOCK_TOKENS = 16


def real(bench: Bench) -> Iterator[Row]:
    """Measure on a real vLLM; where there is none, say so and measure nothing."""
    try:
        find_python()
    except MissingDependencyError as error:
        yield Row("vLLM, tiny model on the CPU", "not run", str(error), float("nan"), "")
        return
    with _server(VllmOptions(max_num_seqs=SEATS, extra=tiny_words())) as server:
        yield from _throughput_rows(bench, server)
    yield _prefix_row(bench)


def _server(options: VllmOptions) -> ModelServer:
    return ModelServer.start(tiny_model(), device="cpu", options=options, say=print)


def _throughput_rows(bench: Bench, server: ModelServer) -> Iterator[Row]:
    load = Load(
        endpoints=[server.endpoint],
        model=server.model,
        requests=max(bench.scale.requests // 4, 2 * SEATS),
        max_tokens=ANSWER_TOKENS,
        # Else an answer ends where the model's noise happens to say so.
        options={"extra": {"ignore_eos": True}},
    )
    # The first requests compile and warm up what the others use.
    Alone(load, SEATS).result()
    rounds = [_round(bench, load, number) for number in range(bench.scale.rounds)]
    plain = {
        number: median(each[f"plain, {number} in flight"].throughput for each in rounds)
        for number in CONCURRENCIES
    }
    best = max(plain, key=plain.__getitem__)
    told = ", ".join(f"{number}: {rate:.1f}" for number, rate in plain.items())
    yield Row("vLLM, tiny model on the CPU: plain", told, "requests/s by concurrency", 1.0, "")
    later = median(each["limit found"].later_throughput for each in rounds)
    yield Row(
        "vLLM, in process, limit found, second half",
        f"{later:.1f} requests/s",
        f"{plain[best]:.1f} plain, {best} in flight",
        median(each["limit found"].later_throughput / _best(each) for each in rounds),
        "",
    )
    for what in ("limit found", *(f"limit {number}" for number in CONCURRENCIES)):
        ours = median(each[what].throughput for each in rounds)
        ratio = median(each[what].throughput / _best(each) for each in rounds)
        is_asked = what in ("limit found", f"limit {best}")
        yield Row(
            f"vLLM, in process, {what}",
            f"{ours:.1f} requests/s",
            f"{plain[best]:.1f} plain, {best} in flight",
            ratio,
            ">= 0.95 of plain at its best" if is_asked else "",
        )


def _round(bench: Bench, load: Load, number: int) -> Mapping[str, Result]:
    """Run all ways once, each in a process that knows nothing of the others."""
    found = {}
    for limit in CONCURRENCIES:
        found[f"plain, {limit} in flight"] = Alone(load, limit).result()
        known = replace(load, limit=limit)
        found[f"limit {limit}"] = Alone(known).result()
    found["limit found"] = Alone(load).result()
    for what, result in found.items():
        bench.note_run("real", what, result, round=number)
    return found


def _best(found: Mapping[str, Result]) -> float:
    return max(result.throughput for name, result in found.items() if name.startswith("plain"))


def _prefix_row(bench: Bench) -> Row:
    """Ask two real servers with affinity and without; the second run finds fresh ones, too."""
    kv_bytes = CACHE_BLOCKS * _BLOCK_TOKENS * _KV_BYTES_PER_TOKEN
    options = VllmOptions(max_num_seqs=4, kv_cache_bytes=kv_bytes, max_model_len=4096)
    found: dict[bool, tuple[Cached, Result]] = {}
    for has_affinity in (True, False):
        with ExitStack() as stack:
            servers = [stack.enter_context(_server(options)) for _ in range(2)]
            load = Load(
                endpoints=[server.endpoint for server in servers],
                model=servers[0].model,
                requests=max(bench.scale.requests // 10, 5 * TENANTS),
                tenants=TENANTS,
                # The tiny model's tokens are bytes.
                prompt_chars=PREFIX_TOKENS,
                max_tokens=8,
                has_affinity=has_affinity,
            )
            found[has_affinity] = ask(bench, "vLLM", load, servers)
    return prefix_row("vLLM, tiny model on the CPU", found)
