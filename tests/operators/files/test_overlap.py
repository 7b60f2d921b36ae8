"""A run never writes over its own input."""

from __future__ import annotations

import pytest

from sage_dask.errors import SinkError
from sage_dask.operators import Collect, FromIterable, ReadJsonl, WriteIndex, WriteJsonl
from sage_dask.operators.files.overlap import check_apart


@pytest.mark.parametrize(
    ("read", "written"),
    [
        ("in.jsonl", "in.jsonl"),
        ("in.jsonl", "./folder/../in.jsonl"),
        ("in.jsonl", "link.jsonl"),
        ("out.jsonl.partial", "out.jsonl"),
        ("out.jsonl.failed.jsonl", "out.jsonl"),
    ],
)
def test_a_file_is_not_its_own_output(tmp_path, monkeypatch, read, written):
    """The input is neither the output, under whatever name, nor a file beside it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.jsonl").symlink_to("in.jsonl")

    with pytest.raises(SinkError, match=r"would write over the input '.*'; name another"):
        check_apart(ReadJsonl(read), WriteJsonl(written))


def test_an_index_does_not_replace_the_folder_that_it_is_made_of(tmp_path):
    """Passages that lie in an index are not read while that index is written."""
    with pytest.raises(SinkError, match="would write over"):
        check_apart(
            ReadJsonl(tmp_path / "c.index" / "passages.jsonl"),
            WriteIndex(str(tmp_path / "c.index")),
        )


@pytest.mark.parametrize(
    ("source", "sink"),
    [
        (ReadJsonl("in.jsonl"), WriteJsonl("out.jsonl")),
        (ReadJsonl("in.jsonl"), Collect()),
        (FromIterable([1]), WriteJsonl("out.jsonl")),
    ],
)
def test_everything_else_is_apart(source, sink):
    """Other files, and what is no file, may be read and written together."""
    check_apart(source, sink)
