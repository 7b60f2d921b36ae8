"""``sage-dask demo``: the whole system at work on this machine's own documentation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sage_dask.cli.examples import example
from sage_dask.cli.exits import HELP, SOME_FAILED
from sage_dask.cli.streams import say
from sage_dask.progress import show_progress

if TYPE_CHECKING:
    from sage_dask.demo.run import Writer


@click.command(
    epilog=example(
        "sage-dask demo --folder demo-output --questions 400",
        "sage-dask demo --endpoint http://gpu-0:8000/v1",
    )
    + HELP
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where corpus, index and runs are kept.",
)
@click.option("--passages", type=click.IntRange(min=100), default=3000, show_default=True)
@click.option("--questions", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--nodes", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--endpoint", help="Model server that writes the answers.")
@click.option("--model", help="Its model; by default the first that it has.")
@click.option(
    "--tiny", is_flag=True, help="Start a vLLM with a tiny random model: its words are noise."
)
def demo(
    folder: Path,
    passages: int,
    questions: int,
    nodes: int,
    endpoint: str | None,
    model: str | None,
    tiny: bool,
) -> None:
    """Index what Python documents about itself, and answer questions from it.

    The first run embeds the passages, which takes minutes; later runs only answer.  Without
    --endpoint or --tiny no language model writes: answers are quoted from the passages.
    """
    if (tiny and endpoint) or (model and not endpoint):
        raise click.UsageError(
            "--model goes with --endpoint, and --tiny with neither; such as: sage-dask demo --tiny"
        )
    from sage_dask.demo.run import Demo, run_demo

    with _writer(endpoint, model, tiny=tiny) as writer:
        report = run_demo(
            Demo(folder, passages, questions, nodes, writer),
            say=say,
            show_progress=show_progress,
        )
    if report.num_failed:
        click.get_current_context().exit(SOME_FAILED)


@contextmanager
def _writer(endpoint: str | None, model: str | None, *, tiny: bool) -> Iterator[Writer | None]:
    """Lend the model that writes the answers, if any is wanted."""
    if not (endpoint or tiny):
        yield None
        return
    from sage_dask.cluster import ModelServer, VllmOptions
    from sage_dask.cluster.tiny_model import tiny_model, tiny_words
    from sage_dask.demo.run import Writer

    if endpoint:
        server = ModelServer.attach(endpoint)
    else:
        say("Starting a tiny random model in a real vLLM; that takes half a minute")
        options = VllmOptions(extra=tiny_words())
        server = ModelServer.start(tiny_model(), options=options, say=lambda line: say(f"  {line}"))
    with server:
        if model is not None:
            server.require_model(model)
        yield Writer(server.endpoint, model or server.model)
