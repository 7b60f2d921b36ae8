"""``sage-dask eval``: score an index by questions whose answers are known."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from sage_dask.cli.examples import example
from sage_dask.cli.exits import HELP, SOME_FAILED, nothing_spent
from sage_dask.cli.machines import chosen, describe_machines, machines, node_options
from sage_dask.cli.output import note, print_json
from sage_dask.cli.streams import say
from sage_dask.errors import PlanError, counted
from sage_dask.evaluation import retrieval_table
from sage_dask.progress import show_progress
from sage_dask.spec import RunDefaults

_WHAT_IT_IS = (
    "known-item search: a question counts as found where the passages that its file marks stand.\n"
    "It compares settings on one corpus.  Where questions were taken from the corpus itself, it\n"
    "does not say how well people's questions are answered."
)


@click.command(
    epilog=example("sage-dask eval corpus.index questions.jsonl --k 20 --rerank-k 10") + HELP
)
@click.argument("index_path", metavar="INDEX")
@click.argument("questions")
@click.option("--k", type=click.IntRange(min=1), default=20, show_default=True, help="Retrieved.")
@click.option(
    "--rerank-k",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Depth at which rankings are cut, before and after reranking.",
)
@click.option("--limit", type=click.IntRange(min=1), help="Questions asked; all, if not given.")
@node_options
@click.option("--json", "as_json", is_flag=True, help="Print scores and report as JSON.")
def evaluate(
    index_path: str,
    questions: str,
    k: int,
    rerank_k: int,
    limit: int | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Ask INDEX the QUESTIONS and print recall and mean reciprocal rank (MRR).

    QUESTIONS are JSON lines of id, question and relevant: the ids of the passages to be found.
    """
    from sage_dask.experiments.retrieval_quality import quality_pipeline, retrieval_quality

    if rerank_k > k:
        raise PlanError(f"--rerank-k {rerank_k} is more than the {k} retrieved; raise --k")
    run = chosen(RunDefaults(), given)
    depths: dict[str, Any] = {"k": k, "rerank_k": rerank_k, "limit": limit}
    with nothing_spent():
        pipeline, _ = quality_pipeline(index_path, questions, **depths)
        pipeline.plan()
    with machines(pipeline, run) as on, show_progress() as progress:
        note(describe_machines(run, on))
        quality = retrieval_quality(index_path, questions, on=on, observer=progress, **depths)
    if as_json:
        print_json(
            {
                "before": asdict(quality.before),
                "after": asdict(quality.after),
                "report": quality.report.as_dict(),
            }
        )
    else:
        say(_WHAT_IT_IS)
        say(retrieval_table({"retrieved": quality.before, "reranked": quality.after}))
    if quality.report.num_failed:
        num_failed = counted(quality.report.num_failed, "question")
        note(f"failed: {num_failed}, not in the figures")
        click.get_current_context().exit(SOME_FAILED)
