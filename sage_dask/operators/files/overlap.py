"""Whether a run would write over the very file that it reads."""

from __future__ import annotations

import os
from pathlib import Path

from sage_dask.errors import SinkError
from sage_dask.operators.files.companion import failed_path
from sage_dask.operators.files.life import partial_path
from sage_dask.stage import Sink, Source


def check_apart(source: Source, sink: Sink) -> None:
    """Raise ``SinkError`` if the sink would replace, or lie around, the source's file.

    Sources and sinks that have no ``path`` are not files, and apart.
    """
    read, output = _path(source), _path(sink)
    if read is None or output is None:
        return
    failed = failed_path(output)
    for written in (output, partial_path(output), failed, partial_path(failed)):
        if read.is_relative_to(written):
            raise SinkError(
                f"output {sink.name!r} would write over the input {source.name!r}, which is "
                f"{str(written)!r}; name another output, or move the input"
            )


def _path(end: object) -> Path | None:
    path = getattr(end, "path", None)
    return Path(path).resolve() if isinstance(path, str | os.PathLike) else None
