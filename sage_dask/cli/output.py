"""What commands print: results on stdout, everything about them on stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sage_dask.cli.streams import say
from sage_dask.metrics import without_nan
from sage_dask.operators.files.companion import failed_path
from sage_dask.report import Report
from sage_dask.stage import Sink


def print_json(value: Any) -> None:
    """Print a value as strict JSON; what was not measured (NaN) is null."""
    say(json.dumps(without_nan(value), indent=2, allow_nan=False))


def print_report(report: Report, *, as_json: bool, quiet: bool = False) -> None:
    """Print a report for programs, for people, or not at all."""
    if as_json:
        print_json(report.as_dict())
    elif not quiet:
        say(str(report))


def note(text: str, *, quiet: bool = False) -> None:
    """Say something beside the result."""
    if not quiet:
        say(text, err=True)


def failed_file(sink: Sink | None) -> Path | None:
    """Return where a sink keeps failed records, if it is a file that is there."""
    path = getattr(sink, "path", None)
    if path is None:
        return None
    failed = failed_path(Path(path))
    return failed if failed.exists() else None
