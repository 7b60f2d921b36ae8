"""Rows of cells, and going on after a broken one."""

from __future__ import annotations

import csv
import io
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.operators.files.csvrows import CsvRows
from sage_dask.operators.files.rows import RowError

cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


def all_rows(data: bytes, limit: int = 1000, width: int | None = None) -> list[list[str] | None]:
    """Return each row's cells, or None for a broken one."""
    rows: list[list[str] | None] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        path.write_bytes(data)
        with closing(CsvRows(path, ",", limit)) as stream:
            stream.width = width
            # Each line is begun at most once, so a correct reader ends well before this.
            for _ in range(data.count(b"\n") + 2):
                try:
                    rows.append(next(stream))
                except RowError:
                    rows.append(None)
                except StopIteration:
                    return rows
    raise AssertionError(f"no end after {len(rows)} rows")


@given(st.lists(st.lists(cells, min_size=2, max_size=3), max_size=5))
def test_sound_rows_are_what_csv_wrote(rows: list[list[str]]):
    """Whatever the csv module writes is read back, but for rows that look blank."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)

    got = all_rows(b"_,_\n" + text.getvalue().encode())

    assert got[1:] == rows


@given(st.text('a",', max_size=20))
def test_no_stray_quotes_cost_more_than_their_row(stray: str):
    """Whatever stands in one line, the rows after it are all read."""
    after = [["1", "x"], ["2", "y"], ["3", "z"]]

    got = all_rows(stray.encode() + b"\n1,x\n2,y\n3,z\n", limit=200, width=2)

    assert got[-3:] == after
    assert len(got) <= 4


def test_a_row_of_the_wrong_width_gives_its_lines_back():
    """A stray quote that a later one happens to close does not take the row between."""
    got = all_rows(b'0,v\n1,"x\n2,y\n3,z",9\n4,w\n', width=2)

    assert got == [["0", "v"], None, ["2", "y"], None, ["4", "w"]]
