"""Row groups on their way to a Parquet file."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sage_dask.operators.files.parquetpartial import ParquetPartial


def test_rows_that_do_not_fit_change_nothing(tmp_path: Path):
    """All of a refused write's rows stay out, and the schema is as it was."""
    file = ParquetPartial(tmp_path / "out.parquet")
    file.write([{"a": 2**60 + 1}])

    # As fractions, the number that is there already would lose its last digit.
    with pytest.raises(ValueError, match="is outside of the range"):
        file.write([{"b": 1}, {"a": 0.5}])
    file.write([{"a": 3}])
    file.publish()

    table = pq.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == [{"a": 2**60 + 1}, {"a": 3}]


def test_a_kept_partial_has_its_footer(tmp_path: Path):
    """An aborted run's rows can be read."""
    file = ParquetPartial(tmp_path / "out.parquet")
    file.write([{"a": 1}, {"a": 2}])

    kept = file.keep()

    assert kept == 2
    assert pq.read_table(file.path, partitioning=None).num_rows == 2
    assert not (tmp_path / "out.parquet").exists()
