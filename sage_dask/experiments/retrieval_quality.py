"""How well an index finds the passages that belong to questions, before and after reranking.

Known-item search: a question comes with the ids of the passages that answer it,
and what is scored is where those stand in the ranking.  It compares settings on
one corpus; it does not say how well people's questions are answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sage_dask.errors import RunError
from sage_dask.evaluation import RECALL_DEPTHS, RetrievalScore
from sage_dask.operators.basic import Map
from sage_dask.operators.embed import Embed
from sage_dask.operators.rerank import Rerank
from sage_dask.operators.retrieval.manifest import Manifest
from sage_dask.operators.retrieve import Retrieve
from sage_dask.operators.sinks import Collect
from sage_dask.operators.sources import ReadJsonl
from sage_dask.pipeline import Pipeline
from sage_dask.record import Failure, Record, SourceItem
from sage_dask.report import Report
from sage_dask.stage import FieldSet, Source
from sage_dask.standing import Observer

# The two rankings of a question, as lists of ids.
_BEFORE, _AFTER = "retrieved_ids", "reranked_ids"
_TOKENS = "question_tokens"


@dataclass(frozen=True, slots=True)
class RetrievalQuality:
    """Scores of one index over one file of questions."""

    before: RetrievalScore
    """Of the order in which the index returned passages."""
    after: RetrievalScore
    """Of the order after reranking; both rankings are cut at the same depth."""
    report: Report
    """What the run cost; questions that failed are counted there and not scored."""


@dataclass
class FirstRecords(Source):
    """The first records of another source."""

    source: Source
    limit: int

    @property
    def name(self) -> str:
        """The other source's name."""
        return self.source.name

    def known_fields(self) -> FieldSet:
        """Return what the other source knows."""
        return self.source.known_fields()

    def check(self) -> None:
        """Raise what the other source raises."""
        self.source.check()

    def read(self) -> Iterator[SourceItem | Failure]:
        """Yield as many records and failures as are wanted."""
        return islice(self.source.read(), self.limit)


def retrieval_quality(
    index: str,
    questions: str,
    *,
    k: int = 20,
    rerank_k: int = 10,
    limit: int | None = None,
    on: Any = None,
    observer: Observer | None = None,
) -> RetrievalQuality:
    """Ask an index all questions of a file and score what it finds.

    Args:
        index: Folder of the index.
        questions: JSON lines of ``id``, ``question`` and ``relevant``, a list of passage ids.
        k: Passages retrieved per question.
        rerank_k: Depth at which both rankings are cut, at most ``k``.
        limit: Questions asked; None for all.
        on: What it runs on, as for ``Pipeline.run``.
        observer: Called with the progress.

    Raises:
        PlanError: The index or the questions do not fit.
        RunError: No question could be scored.
    """
    pipeline, output = quality_pipeline(index, questions, k=k, rerank_k=rerank_k, limit=limit)
    report = pipeline.run(on, observer=observer)
    if not output.records:
        first = f"; the first failure: {output.failures[0].message}" if output.failures else ""
        raise RunError(f"none of {report.num_read} questions in {questions!r} was scored{first}")
    relevant = [record["relevant"] for record in output.records]
    depths = [depth for depth in RECALL_DEPTHS if depth <= rerank_k]
    before = [record[_BEFORE][:rerank_k] for record in output.records]
    after = [record[_AFTER] for record in output.records]
    return RetrievalQuality(
        RetrievalScore.of(before, relevant, depths),
        RetrievalScore.of(after, relevant, depths),
        report,
    )


def quality_pipeline(
    index: str, questions: str, *, k: int, rerank_k: int, limit: int | None
) -> tuple[Pipeline, Collect]:
    """Return the pipeline that asks the questions, and the sink that takes the rankings."""
    manifest = Manifest.read(Path(index))
    stored = index if manifest.num_tokens is not None else None
    source: Source = ReadJsonl(questions, id="id")
    output = Collect()
    pipeline = (
        Pipeline("eval")
        .source(source if limit is None else FirstRecords(source, limit))
        .stage("check", Map(checked, reads=["question", "relevant"], writes=[]))
        .stage("embed", Embed(model=manifest.model, text="question", tokens_into=_TOKENS))
        .stage("retrieve", Retrieve(index=index, k=k))
        .stage("before", Map(with_ids_before, reads=["passages"], writes=[_BEFORE]))
        .stage(
            "rerank",
            Rerank(k=rerank_k, model=manifest.model, index=stored, query_tokens=_TOKENS),
        )
        .stage("after", Map(with_ids_after, reads=["passages"]))
        .sink(output)
    )
    return pipeline, output


def checked(record: Record) -> Record:
    """Return a question as it is, or raise ``ValueError`` where it can not be scored."""
    relevant = record["relevant"]
    if not isinstance(relevant, list) or not relevant:
        raise ValueError(
            "field 'relevant' must be a list of the ids of passages that answer the question, "
            f"found {relevant!r:.80}"
        )
    return record


def with_ids_before(record: Record) -> Record:
    """Return a record with the order of its passages as the index returned them."""
    return {**record, _BEFORE: [passage["id"] for passage in record["passages"]]}


def with_ids_after(record: Record) -> Record:
    """Return what scoring needs, so that texts and vectors do not travel to the driver."""
    after = [passage["id"] for passage in record["passages"]]
    return {"relevant": record["relevant"], _BEFORE: record[_BEFORE], _AFTER: after}
