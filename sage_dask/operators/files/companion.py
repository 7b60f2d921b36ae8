"""The failed file, which stands beside an output and says what is not in it.

``answers.jsonl`` has ``answers.jsonl.failed.jsonl``: one line per failed record,
with its stage, its error, and the record as it was read.  No such file means
that nothing failed, so one of an earlier run is removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sage_dask.disk import sync_folder
from sage_dask.operators.files.jsontext import json_line_of_anything
from sage_dask.operators.files.life import check_target, remove_partial, writing
from sage_dask.operators.files.partial import PartialFile
from sage_dask.record import Failure


def failed_path(output: Path) -> Path:
    """Return where the failures of an output stand."""
    return output.with_name(f"{output.name}.failed.jsonl")


def check_failed_path(output: Path) -> None:
    """Raise ``SinkError`` unless a failed file can be made beside ``output``."""
    check_target(failed_path(output))


class FailedFile:
    """Failures on their way to the failed file; no file is made before the first of them."""

    def __init__(self, output: Path) -> None:
        """Make ready, and remove what an aborted run left in the way.

        Args:
            output: The file or folder whose failures these are.

        Raises:
            SinkError: The earlier partial can not be removed, or is another run's.
        """
        self.target = failed_path(output)
        self._rows: PartialFile | None = None
        remove_partial(self.target)

    @property
    def num_failures(self) -> int:
        """How many failures were written."""
        return self._rows.num_records if self._rows is not None else 0

    def write(self, failures: Sequence[Failure]) -> None:
        """Append failures.

        Raises:
            SinkError: The disk refused; the message says how many are safe.
        """
        if not failures:
            return
        if self._rows is None:
            self._rows = PartialFile(self.target)
        self._rows.write([json_line_of_anything(failure.as_record()) for failure in failures])

    def publish(self) -> None:
        """Put the file in its place, or remove an earlier run's where nothing failed.

        Raises:
            SinkError: That failed; ``keep`` still works.
        """
        if self._rows is not None:
            self._rows.publish()
        elif self.target.exists():
            with writing(self.target):
                self.target.unlink()
                sync_folder(self.target.parent)

    def keep(self) -> str:
        """Leave the partial with its whole lines and say where it is; nothing where there is none.

        Raises:
            SinkError: The disk refused even that.
        """
        if self._rows is None:
            return ""
        return f"{self._rows.keep()} failed ones in {str(self._rows.path)!r}"
