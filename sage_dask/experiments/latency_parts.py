"""Whether the breakdown of latency is true: a RAG pipeline whose parts are told how long to take.

Three timed servers embed, rerank and generate, each request for a fixed time;
retrieval waits for one.  What the breakdown measured stands beside what was told, and
for the queue, which nobody sets, beside what the server itself counted.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack

from sage_dask.breakdown import (
    ANSWER,
    FIRST_TOKEN,
    GENERATION,
    NETWORK,
    SERVER_QUEUE,
    Breakdown,
)
from sage_dask.cluster import LocalNodes
from sage_dask.cluster.timed_server.process import TimedServerProcess
from sage_dask.experiments.table import Row
from sage_dask.experiments.work import Find
from sage_dask.operators import Collect, Embed, FromIterable, Generate, Prompt, Rerank
from sage_dask.pipeline import Pipeline

NUM_RECORDS = 320
BATCH_SIZE = 8
SEATS = 16

EMBED_S = 0.4
RETRIEVE_S = 0.2
RERANK_S = 0.3
GENERATE_S = 0.49
"""One generation at the server of the published evaluation."""


def latency_parts() -> Iterator[Row]:
    """Compare the parts of the latency with what was told, on four nodes."""
    with ExitStack() as stack:
        embedder, reranker, model = (
            stack.enter_context(TimedServerProcess(latency_s=s, seats=seats, request_metrics=True))
            for s, seats in ((EMBED_S, 64), (RERANK_S, 256), (GENERATE_S, SEATS))
        )
        nodes = stack.enter_context(LocalNodes(4, threads=4, dashboard=None))
        pipeline = _rag(embedder.endpoint, reranker.endpoint, model.endpoint)
        pipeline.run(nodes, batch_size=BATCH_SIZE, max_in_flight=8)
        before = _queue_of(model.metrics)
        report = pipeline.run(nodes, batch_size=BATCH_SIZE, max_in_flight=8)
        queue_s, num_requests = (
            b - a for a, b in zip(before, _queue_of(model.metrics), strict=True)
        )
    breakdown = report.breakdown
    generate = _calls(breakdown, "generate")
    parts = {
        "embed: answer": (_calls(breakdown, "embed")[ANSWER], EMBED_S),
        "retrieve": (breakdown.seconds("retrieve"), RETRIEVE_S),
        "rerank: answer": (_calls(breakdown, "rerank")[ANSWER], RERANK_S),
        "generate: first token and generation": (
            generate[FIRST_TOKEN] + generate[GENERATION],
            GENERATE_S,
        ),
        "generate: server queue": (generate[SERVER_QUEUE], queue_s / num_requests),
    }
    for name, (measured_s, told_s) in parts.items():
        yield Row(
            f"latency, {name}",
            f"{1000 * measured_s:.1f} ms",
            f"{1000 * told_s:.1f} ms told (timed server)",
            measured_s / told_s,
            "0.97 to 1.03",
        )
    yield Row(
        "latency, generate: network and front end",
        f"{1000 * generate[NETWORK]:.1f} ms",
        "",
        generate[NETWORK] / breakdown.latency_s,
        "",
    )
    yield Row(
        f"latency, residue of {1000 * breakdown.latency_s:.0f} ms",
        f"{1000 * breakdown.residue_s:.2f} ms",
        "",
        abs(breakdown.residue_share),
        "< 0.02",
    )


def _rag(embedder: str, reranker: str, model: str) -> Pipeline:
    questions = [{"id": str(n), "question": f"question {n}"} for n in range(NUM_RECORDS)]
    return (
        Pipeline("rag")
        .source(FromIterable(questions, id="id"))
        .stage("embed", Embed(endpoint=embedder, model="timed", text="question", limit=64))
        .stage("retrieve", Find(RETRIEVE_S))
        .stage("rerank", Rerank(endpoint=reranker, model="timed", k=5, limit=256))
        .stage("prompt", Prompt(text="{passages}\n\n{question}"))
        # Twice as many as there are seats, so that there is a queue to be told of.
        .stage("generate", Generate(model, "timed", max_tokens=64, limit=2 * SEATS))
        .sink(Collect())
    )


def _calls(breakdown: Breakdown, stage: str) -> dict[str, float]:
    (part,) = (part for part in breakdown.parts if part.name == stage)
    return {each.name: each.seconds for each in part.parts}


def _queue_of(metrics: str) -> tuple[float, float]:
    """Return the seconds that all requests so far were queued, and their number."""
    with urllib.request.urlopen(metrics, timeout=10) as answer:  # noqa: S310 - our own server
        text = answer.read().decode()
    sums = re.findall(r"vllm:request_queue_time_seconds_sum{[^}]*} (\S+)", text)
    counts = re.findall(r"vllm:request_queue_time_seconds_count{[^}]*} (\S+)", text)
    return sum(map(float, sums)), sum(map(float, counts))
