"""What the journal costs the demonstration: runs with one and without, in turn.

Run it with ``make bench-rag``; corpus and index are those of ``make demo``.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sage_dask.cluster import LocalNodes
from sage_dask.demo.run import Demo, make_corpus, make_index, rag_pipeline
from sage_dask.experiments.table import Row, header, in_turn
from sage_dask.progress import NoProgress

_RUNS = 5


def journal_cost(demo: Demo) -> Row:
    """Answer the questions several times with a journal and without."""
    make_corpus(demo, print)
    preload = rag_pipeline(demo, Path("-")).imports
    with LocalNodes(demo.num_nodes, preload=preload) as nodes, TemporaryDirectory() as folder:
        make_index(demo, nodes, print, NoProgress)
        answer = partial(_answer, demo, nodes, Path(folder))
        # Models are loaded and warm after the first run.
        answer(durable=False)
        ours, plain = in_turn(_RUNS, partial(answer, durable=True), partial(answer, durable=False))
    return Row(
        f"RAG demo, {demo.num_questions} questions on {demo.num_nodes} nodes, with a journal",
        f"{ours:.1f} s",
        f"{plain:.1f} s without one",
        ours / plain,
        "<= 1.05",
    )


def _answer(demo: Demo, nodes: LocalNodes, folder: Path, *, durable: bool) -> float:
    """Answer all questions in a folder of its own, and return the seconds it took."""
    with TemporaryDirectory(dir=folder) as own:
        pipeline = rag_pipeline(demo, Path(own) / "answers.jsonl")
        started = time.perf_counter()
        pipeline.run(nodes, run_dir=Path(own) / "run", durable=durable)
        return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    row = journal_cost(Demo(Path("demo-output")))
    print(header())
    print(row)


if __name__ == "__main__":
    main()
