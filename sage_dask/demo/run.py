"""The demonstration: a RAG pipeline over the documentation that Python carries with it.

Everything is real except the writing: without a model server the answers are
sentences quoted from the passages, and say so; a server may be given, or a tiny
random one started, whose words are noise.  What takes long (the corpus and its
index) is kept in the folder and used again.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sage_dask.cluster import LocalNodes
from sage_dask.cluster.tiny_model import is_random
from sage_dask.demo.corpus import build_corpus
from sage_dask.evaluation import retrieval_table
from sage_dask.experiments.retrieval_quality import retrieval_quality
from sage_dask.indexing import index_pipeline
from sage_dask.operators import (
    Embed,
    Generate,
    Prompt,
    ReadJsonl,
    Rerank,
    Retrieve,
    Select,
    WriteJsonl,
)
from sage_dask.pipeline import Pipeline
from sage_dask.report import Report
from sage_dask.standing import Observer

# Two processes per core keep both busy while one loads or writes; four nodes are what the
# README's picture shows.
NUM_NODES = 4

# Of an answer that is shown as an example.
_SHOWN_CHARS = 200
_QUOTED = "quoted from the passages; no language model wrote them"

TEMPLATE = """Answer the question from the passages, and name the passage you used.

Question: {question}

{passages}
"""


# Long enough to see what a model makes of a question; a random one rarely stops by itself.
_ANSWER_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Writer:
    """The model that writes the answers."""

    endpoint: str
    model: str

    @property
    def description(self) -> str:
        """Who wrote, for those who read the answers."""
        if is_random(self.model):
            return f"written by {self.model!r}, whose weights are random: its words are noise"
        return f"written by {self.model!r}"


@dataclass(frozen=True, slots=True)
class Demo:
    """What is to be shown, and where it is kept."""

    folder: Path
    num_passages: int = 3000
    num_questions: int = 200
    num_nodes: int = NUM_NODES
    writer: Writer | None = None
    """None quotes answers from the passages."""

    @property
    def corpus(self) -> Path:
        """Folder of what later runs use again, one for each Python and size."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
        return self.folder / f"python-{version}-{self.num_passages}-{self.num_questions}"

    @property
    def passages(self) -> Path:
        """The corpus, as JSON lines."""
        return self.corpus / "passages.jsonl"

    @property
    def questions(self) -> Path:
        """The questions, as JSON lines."""
        return self.corpus / "questions.jsonl"

    @property
    def index(self) -> Path:
        """The index of the corpus."""
        return self.corpus / "corpus.index"


Say = Callable[[str], None]
ShowProgress = Callable[[], AbstractContextManager[Observer]]


def run_demo(demo: Demo, say: Say, show_progress: ShowProgress) -> Report:
    """Make what is missing, answer all questions, and tell how it went.

    Args:
        demo: What to show.
        say: Called with each line of the story.
        show_progress: Lends an observer for each run.

    Returns:
        The report of the RAG run.
    """
    started = time.perf_counter()
    make_corpus(demo, say)
    say(f"Starting {demo.num_nodes} nodes on this machine")
    with LocalNodes(demo.num_nodes, preload=rag_pipeline(demo, Path("-")).imports) as nodes:
        say(f"  dashboard   {nodes.pipelines_link}   (while this runs)")
        make_index(demo, nodes, say, show_progress)
        run_dir = demo.folder / "runs" / f"{datetime.now():%Y%m%d-%H%M%S}"
        pipeline = rag_pipeline(demo, run_dir / "answers.jsonl")
        say(f"Answering {demo.num_questions} questions: {_stages(pipeline)}")
        if demo.writer is not None:
            say(f"  answers are {demo.writer.description}")
        run_dir.mkdir(parents=True)
        with show_progress() as observer:
            report = pipeline.run(nodes, run_dir=run_dir, observer=observer)
        (run_dir / "plan.md").write_text(_plan_page(pipeline))
        (run_dir / "report.txt").write_text(f"{report}\n")
        say(f"\n{report}\n")
        _say_quality(demo, nodes, say)
    about = demo.writer.description if demo.writer else _QUOTED
    _say_examples(run_dir / "answers.jsonl", about, say)
    say(f"answers   {run_dir / 'answers.jsonl'}")
    say(f"report    {run_dir / 'report.txt'}   (again: sage-dask report {run_dir})")
    say(f"plan      {run_dir / 'plan.md'}")
    say(f"as a page sage-dask report {run_dir} --html report.html")
    say(f"a life    sage-dask why {_first_id(run_dir / 'answers.jsonl')} --run-dir {run_dir}")
    say(f"All of it took {time.perf_counter() - started:.0f} s.")
    return report


def _first_id(answers: Path) -> str:
    """Return the id of the first answer."""
    with answers.open() as file:
        return shlex.quote(str(json.loads(next(file))["id"]))


def make_corpus(demo: Demo, say: Say) -> None:
    """Write passages and questions, unless they are there."""
    if demo.questions.exists():
        say(f"Using the corpus in {demo.corpus}")
        return
    say("Reading the standard library's documentation")
    demo.corpus.mkdir(parents=True, exist_ok=True)
    unfinished = demo.questions.with_suffix(".partial")
    summary = build_corpus(
        demo.passages,
        unfinished,
        max_passages=demo.num_passages,
        num_questions=demo.num_questions,
    )
    unfinished.rename(demo.questions)
    say(
        f"  {summary.num_passages:,} passages, {summary.num_words:,} words, "
        f"{summary.num_questions:,} questions in {demo.corpus}"
    )


def make_index(demo: Demo, nodes: LocalNodes, say: Say, show_progress: ShowProgress) -> None:
    """Embed and index the passages, unless that was done."""
    if demo.index.exists():
        say(f"Using the index in {demo.index}")
        return
    say(f"Embedding {demo.num_passages:,} passages on {demo.num_nodes} nodes (once; a few minutes)")
    pipeline = index_pipeline(str(demo.passages), str(demo.index))
    with show_progress() as observer:
        report = pipeline.run(nodes, observer=observer)
    say(f"  {report.num_written:,} passages in {report.makespan_s:.0f} s: {demo.index}")


def rag_pipeline(demo: Demo, answers: Path) -> Pipeline:
    """Return the pipeline that the demonstration is about."""
    return (
        Pipeline("rag")
        .source(ReadJsonl(demo.questions, id="id"))
        .stage("embed", Embed(text="question", tokens_into="question_tokens"))
        .stage("retrieve", Retrieve(str(demo.index), k=20))
        .stage("rerank", Rerank(k=5, index=str(demo.index), query_tokens="question_tokens"))
        .stage("prompt", Prompt(text=TEMPLATE))
        .stage("generate", _generate(demo.writer))
        .stage("keep", Select(["id", "question", "answer", "answer_meta", "prompt"]))
        .sink(WriteJsonl(str(answers)))
    )


def _generate(writer: Writer | None) -> Generate:
    if writer is None:
        return Generate()
    return Generate(
        endpoint=writer.endpoint, model=writer.model, max_tokens=_ANSWER_TOKENS, temperature=0.7
    )


def _say_quality(demo: Demo, nodes: LocalNodes, say: Say) -> None:
    quality = retrieval_quality(str(demo.index), str(demo.questions), on=nodes)
    say("How well the right passage is found (known-item search; see README, 'What is measured'):")
    table = retrieval_table({"retrieved": quality.before, "reranked": quality.after})
    say("\n".join(f"  {line}" for line in table.splitlines()) + "\n")


def _say_examples(answers: Path, about: str, say: Say) -> None:
    """Show some answers from the middle of the file, so that a stranger sees what came out."""
    with answers.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    say(f"For example ({about}):")
    for record in records[len(records) // 4 :: len(records) // 3 or 1]:
        say(f"  Q  {record['question']}")
        say(f"  A  {_cut(' '.join(record['answer'].split()))}")
        sources = record["answer_meta"].get("sources")
        say(f"     from {', '.join(sources)}\n" if sources else "")


def _cut(text: str) -> str:
    # Noise may hold what a terminal takes for orders.
    text = "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS].rsplit(' ', 1)[0]} ..."


def _stages(pipeline: Pipeline) -> str:
    return " -> ".join(["read", *(stage.name for stage in pipeline.stages), "write"])


def _plan_page(pipeline: Pipeline) -> str:
    plan = pipeline.plan()
    return f"```\n{plan.explain()}\n```\n\n```mermaid\n{plan.explain('mermaid')}\n```\n"
