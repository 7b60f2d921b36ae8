"""What sinks that write one file have in common: its life, and the failed file beside it."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from sage_dask.errors import SinkError
from sage_dask.operators.files.companion import FailedFile, check_failed_path, failed_path
from sage_dask.operators.files.life import check_target
from sage_dask.operators.files.partial import PartialFile
from sage_dask.operators.shared import Declared
from sage_dask.record import Failure, Record
from sage_dask.stage import Sink


class Output(Protocol):
    """A file while it is written."""

    path: Path
    """Where it stands until it is published."""

    def publish(self) -> None:
        """Put the whole file in its place."""

    def keep(self) -> int:
        """Leave it as it is, whole, and return how many records it holds."""
        ...


OutputT = TypeVar("OutputT", bound=Output)
T = TypeVar("T")


@dataclass
class FileSink(Declared, Sink, Generic[OutputT]):
    """A sink that writes one file; subclass it and write ``make_output`` and ``write``."""

    path: str | os.PathLike[str]
    _output: OutputT | None = field(init=False, repr=False, compare=False, default=None)
    _failed: FailedFile | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        self.path = os.fspath(self.path)

    @property
    def name(self) -> str:
        """The path, as it was given."""
        return str(self.path)

    @property
    def file(self) -> Path:
        """The path as an object."""
        return Path(self.path)

    @abstractmethod
    def make_output(self) -> OutputT:
        """Open the partial, empty; raises ``SinkError``."""

    def check(self) -> None:
        """Raise ``SinkError`` unless the file and its failed file can be made."""
        check_target(self.file)
        check_failed_path(self.file)

    def open(self) -> None:
        """Make the partial; what an aborted run left there is overwritten.

        Raises:
            SinkError: It can not be made.
        """
        self._output = self.make_output()
        self._failed = FailedFile(self.file)

    def write_failures(self, failures: Sequence[Failure]) -> None:
        """Keep failures for the failed file.

        Raises:
            SinkError: The disk refused, or the sink is not open.
        """
        opened(self._failed, self).write(failures)

    def close(self) -> None:
        """Publish the failed file, then the output.

        In this order, because who waits for the output may then read both.

        Raises:
            SinkError: The disk refused; ``abort`` still works.
        """
        opened(self._failed, self).publish()
        opened(self._output, self).publish()

    def files(self) -> Sequence[Path]:
        """Return the output and its failed file, which is there only if a record failed."""
        return self.file, failed_path(self.file)

    def abort(self) -> str:
        """Leave both partials with whole records and return one sentence about them.

        Raises:
            SinkError: The disk refused even that.
        """
        if self._output is None or self._failed is None:
            return ""
        kept = f"{self._output.keep()} records are in {str(self._output.path)!r}"
        failed = self._failed.keep()
        return f"{kept}, {failed}" if failed else kept


@dataclass
class RowSink(FileSink[PartialFile]):
    """A sink that writes each record as one row of text; subclass it and write ``encode``."""

    def make_output(self) -> PartialFile:
        """Open the partial."""
        return PartialFile(self.file)

    @abstractmethod
    def encode(self, record_id: str, record: Record) -> bytes:
        """Return a record as one row, line end included, or raise ``ValueError``."""

    def write(self, ids: Sequence[str], records: Sequence[Record]) -> Sequence[Failure]:
        """Write records, and return a failure for each that has no form in this file.

        Raises:
            SinkError: The disk refused; the message says how many records are safe.
        """
        rows: list[bytes] = []
        failures: list[Failure] = []
        for record_id, record in zip(ids, records, strict=True):
            try:
                rows.append(self.encode(record_id, record))
            except ValueError as error:
                failures.append(write_failure(record_id, error))
        opened(self._output, self).write(rows)
        return failures


def write_failure(record_id: str, error: Exception) -> Failure:
    """Return the failure of a record that has no form in the output."""
    return Failure(record_id, stage="write", error=type(error).__name__, message=str(error))


def opened(part: T | None, sink: Sink) -> T:
    """Return a part of an open sink.

    Raises:
        SinkError: The sink is not open.
    """
    if part is None:
        raise SinkError(
            f"{type(sink).__name__}({sink.name!r}) is not open; call open() before it is written"
        )
    return part
