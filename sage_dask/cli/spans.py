"""``sage-dask spans``: a run as OpenTelemetry spans, to a collector or into a file."""

from __future__ import annotations

from pathlib import Path

import click

from sage_dask.cli.examples import example
from sage_dask.cli.output import note
from sage_dask.errors import counted


@click.command(
    epilog=example(
        "sage-dask spans runs/rag --otlp http://collector:4318",
        "sage-dask spans runs/rag --out spans.jsonl --every 100",
    )
)
@click.argument("run_dir", metavar="RUN_DIR")
@click.option("--otlp", metavar="URL", help="A collector that takes OTLP over HTTP.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file of OTLP/JSON, a request per line.",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Tell of one batch in so many.",
)
@click.option("--service", help="Name of the service; by default that of the pipeline.")
def spans(
    run_dir: str, otlp: str | None, out: Path | None, every: int, service: str | None
) -> None:
    """Export the run in RUN_DIR as OpenTelemetry spans: a trace per start, a span per batch.

    In a batch's span lie what it waited for, its tasks and stages. Their durations were measured;
    where they lie within the batch is derived. Exporting again makes the same spans. Headers for
    the collector come from OTEL_EXPORTER_OTLP_HEADERS.
    """
    from sage_dask.spans.sending import collector, otlp_file

    if (otlp is None) == (out is None):
        raise click.UsageError(
            "give either --otlp or --out; such as: "
            "sage-dask spans runs/rag --otlp http://collector:4318"
        )
    if otlp is not None:
        number = _send(Path(run_dir), collector(otlp), every, service)
        note(f"{counted(number, 'span')} sent to {otlp}")
    elif out is not None:
        with otlp_file(out) as exporter:
            number = _send(Path(run_dir), exporter, every, service)
        note(f"{counted(number, 'span')} in {out}")


def _send(path: Path, exporter: object, every: int, service: str | None) -> int:
    """Send the spans of a run, and return how many there were."""
    from itertools import chain

    from sage_dask.durable.run_events import run_events
    from sage_dask.events import JobStarted
    from sage_dask.spans.fold import spans_of
    from sage_dask.spans.sending import send

    events = run_events(path)
    first = next(events)
    name = first.pipeline if isinstance(first, JobStarted) else "sage_dask"
    return send(spans_of(chain([first], events), every=every), exporter, service=service or name)
