"""``sage-dask plan``: show what would run, and start nothing."""

from __future__ import annotations

from typing import Any

import click

from sage_dask.cli.examples import example
from sage_dask.cli.exits import nothing_spent
from sage_dask.cli.machines import PlannedNodes, chosen, node_options, planning
from sage_dask.cli.roots import pipeline_within, root_option
from sage_dask.cli.streams import say
from sage_dask.spec import Roots


@click.command(epilog=example("sage-dask plan rag.yaml --nodes 4 --resources LLM=4"))
@click.argument("pipeline")
@node_options
@root_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid"]),
    default="text",
    show_default=True,
    help="For people, or for a document.",
)
def plan(pipeline: str, form: str, roots: Roots | None, **given: Any) -> None:
    """Check PIPELINE and print its plan: fields, tasks, and why stages share them or not.

    With --nodes, what stages need is compared with what those nodes would supply; none is
    started.
    """
    spec = pipeline_within(roots, pipeline)
    options = chosen(spec.run, given)
    with nothing_spent():
        made = spec.pipeline.plan(PlannedNodes(options), **planning(options))
    say(made.explain(form))
