"""Importing is cheap, and what is optional can be absent."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "aiohttp",
    "bm25s",
    "bokeh",
    "distributed",
    "faiss",
    "opentelemetry",
    "pyarrow",
    "sentence_transformers",
    "torch",
    "transformers",
    "zstandard",
)
OPTIONAL = (
    "aiohttp",
    "bm25s",
    "faiss",
    "opentelemetry",
    "pyarrow",
    "sentence_transformers",
    "torch",
    "zstandard",
)

REFUSE = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def python(program, folder):
    """Return what a program prints in a Python of its own."""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["sage_dask", "sage_dask.operators", "sage_dask.cli"])
def test_importing_brings_in_nothing_heavy(module, tmp_path):
    """A second of imports is what nobody pays who only wants to look at a plan."""
    program = f"import sys, {module}; print(sorted(set({HEAVY!r}) & set(sys.modules)))"

    assert python(program, tmp_path) == "[]"


def test_a_local_run_brings_in_nothing_heavy(tmp_path):
    """A pipeline of functions runs in process without Dask's distributed part."""
    program = f"""
import sys
from sage_dask import Collect, FromIterable, Pipeline
Pipeline("p").source(FromIterable([1])).map(dict).sink(Collect()).run()
print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""

    assert python(program, tmp_path) == "[]"


def test_json_lines_run_without_any_extra(tmp_path):
    """The package does its core work with none of the optional packages installed."""
    (tmp_path / "in.jsonl").write_text('{"id": 1, "text": "a"}\n{"id": 2, "text": "b"}\n')
    program = f"""{REFUSE}
from sage_dask import Pipeline
from sage_dask.operators import ReadJsonl, WriteJsonl

def shout(record):
    return {{**record, "text": record["text"].upper()}}

pipeline = Pipeline("p").source(ReadJsonl("in.jsonl", id="id")).map(shout)
print(pipeline.sink(WriteJsonl("out.jsonl")).run().num_written)
"""

    assert python(program, tmp_path) == "2"
    assert '"A"' in (tmp_path / "out.jsonl").read_text()


@pytest.mark.parametrize(
    ("declare", "extra"),
    [
        ("operators.ReadParquet('in.parquet')", "io"),
        ("operators.ReadJsonl('in.jsonl.zst')", "io"),
    ],
)
def test_a_source_that_needs_an_extra_says_which(declare, extra, tmp_path):
    """What is missing is told with the command that installs it."""
    for name in ("in.parquet", "in.jsonl.zst"):
        (tmp_path / name).touch()
    program = f"""{REFUSE}
from sage_dask import Collect, Pipeline, SageError, operators
try:
    Pipeline("p").source({declare}).map(dict).sink(Collect()).run()
except SageError as error:
    print(error)
"""

    assert f"pip install 'sage-dask[{extra}]'" in python(program, tmp_path)


def test_a_stage_that_needs_an_extra_says_which(tmp_path):
    """An embedding stage without its library ends before a record is read."""
    program = f"""{REFUSE}
from sage_dask import Collect, FromIterable, Pipeline, SageError
from sage_dask.operators import Embed
try:
    Pipeline("p").source(FromIterable([{{"question": "a"}}])).stage(
        "embed", Embed(text="question")
    ).sink(Collect()).run()
except SageError as error:
    print(error)
"""

    assert "pip install 'sage-dask[rag]'" in python(program, tmp_path)


def test_exporting_spans_without_its_extra_says_which(tmp_path):
    """The command ends with what to install, and leaves no file."""
    program = f"""{REFUSE}
from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cli import main
Pipeline("p").source(FromIterable([1])).map(dict).sink(Collect()).run(run_dir="r")
from click.testing import CliRunner
print(CliRunner().invoke(main, ["spans", "r", "--out", "spans.jsonl"]).stderr)
"""

    assert "pip install 'sage-dask[otel]'" in python(program, tmp_path)
    assert [each.name for each in tmp_path.glob("spans*")] == []
