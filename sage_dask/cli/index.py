"""``sage-dask index``: build an index of passages, and look at one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sage_dask.cli import exits
from sage_dask.cli.examples import example
from sage_dask.cli.machines import chosen, describe_machines, machines, node_options
from sage_dask.cli.output import failed_file, note, print_report
from sage_dask.cli.streams import say
from sage_dask.errors import counted
from sage_dask.indexing import index_pipeline
from sage_dask.operators.retrieval.manifest import Manifest
from sage_dask.operators.retrieval.vectors import KINDS
from sage_dask.progress import show_progress
from sage_dask.spec import RunDefaults


@click.group(
    epilog=example(
        "sage-dask index build passages.jsonl corpus.index --nodes 2",
        "sage-dask index info corpus.index",
    )
)
def index() -> None:
    """Build an index of passages for retrieval, or look at one."""


@index.command(
    epilog=example("sage-dask index build passages.jsonl corpus.index --kind hnsw") + exits.HELP
)
@click.argument("passages")
@click.argument("index_path", metavar="INDEX")
@click.option("--text", default="text", show_default=True, help="Field that holds a passage.")
@click.option("--id", "id_field", default="id", show_default=True, help="Field that holds its id.")
@click.option("--model", default="minilm", show_default=True, help="Embedding model.")
@click.option("--kind", type=click.Choice(sorted(KINDS)), default="flat", show_default=True)
@click.option("--tokens/--no-tokens", default=True, help="Store token vectors, for reranking.")
@click.option("--bm25/--no-bm25", default=True, help="Store words, for hybrid retrieval.")
@click.option("--overwrite", is_flag=True, help="Replace an index of that name.")
@node_options
def build(passages: str, index_path: str, **given: Any) -> None:
    """Embed PASSAGES (JSON lines) and write the folder INDEX; an ordinary pipeline does it."""
    run = chosen(
        RunDefaults(), {name: given.pop(name) for name in ("nodes", "threads", "resources")}
    )
    pipeline = index_pipeline(passages, index_path, **given)
    with exits.nothing_spent():
        pipeline.plan()
    with machines(pipeline, run) as on, show_progress() as progress:
        note(describe_machines(run, on))
        report = pipeline.run(on, observer=progress)
    print_report(report, as_json=False)
    say(describe_index(Path(index_path)))
    if report.num_failed:
        num_failed = counted(report.num_failed, "passage")
        note(f"failed: {num_failed}; see '{failed_file(pipeline.output)}'")
        click.get_current_context().exit(exits.SOME_FAILED)


@index.command(epilog=example("sage-dask index info corpus.index --verify"))
@click.argument("index_path", metavar="INDEX")
@click.option("--verify", is_flag=True, help="Read every file and compare its hash.")
def info(index_path: str, verify: bool) -> None:
    """Print what INDEX holds and how it was made."""
    say(describe_index(Path(index_path)))
    if verify:
        folder = Path(index_path)
        Manifest.read(folder).verify(folder)
        say("  verified    every file is as it was written")


def describe_index(folder: Path) -> str:
    """Return what an index holds, for people."""
    manifest = Manifest.read(folder)
    num_bytes = sum(facts.bytes for facts in manifest.files.values())
    tokens = "none" if manifest.num_tokens is None else f"{manifest.num_tokens:,} vectors"
    return "\n".join(
        [
            f"index {folder}",
            f"  passages    {manifest.num_passages:,}",
            f"  vectors     {manifest.dimension} wide, {manifest.kind}, by {manifest.model}",
            f"  tokens      {tokens}",
            f"  bm25        {'yes' if manifest.bm25 else 'no'}",
            f"  size        {num_bytes / 2**20:,.1f} MiB in {len(manifest.files)} files",
            f"  made by     {manifest.made_by}",
        ]
    )
