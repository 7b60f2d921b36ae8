"""A folder to work in, and the command line called as a user calls it."""

from __future__ import annotations

import json
import signal
import zlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from sage_dask.cli import main

PIPELINE = """\
pipeline: shout
source:
  read_jsonl: {path: in.jsonl, id: id}
stages:
  - map: {function: "shouting:shout", reads: [text], writes: [text]}
sink:
  write_jsonl: {path: out.jsonl}
"""

SHOUTING = """\
from sage_dask import Collect, FromIterable, Pipeline


def shout(record):
    if record["text"] == "bad":
        raise ValueError("a bad one")
    if record["text"] == "stop":
        raise KeyboardInterrupt
    return {**record, "text": record["text"].upper()}


declared = Pipeline("declared").source(FromIterable([{"text": "a"}])).map(shout).sink(Collect())


def make():
    return declared


number = 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Lend a current directory that holds a pipeline, its functions and three records."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SAGE_TRACEBACK", raising=False)
    # Each test's folder has a module of its own, since a process imports a name only once.
    module = f"shouting_{zlib.crc32(str(tmp_path).encode())}"
    Path("p.yaml").write_text(PIPELINE.replace("shouting:", f"{module}:"))
    Path(f"{module}.py").write_text(SHOUTING)
    write_texts("a", "b", "c")
    return module


def write_texts(*texts: str) -> None:
    """Write the pipeline's input."""
    rows = [json.dumps({"id": number, "text": text}) for number, text in enumerate(texts)]
    Path("in.jsonl").write_text("".join(f"{row}\n" for row in rows))


@pytest.fixture
def cli():
    """Lend a function that calls the command line and returns click's result."""
    return lambda *words: CliRunner().invoke(main, list(words))


@pytest.fixture
def texts():
    """Lend the function that writes the pipeline's input."""
    return write_texts


@pytest.fixture(autouse=True)
def default_hangup():
    """Hang up as a terminal does: under ``nohup``, and in some CI, the signal is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
