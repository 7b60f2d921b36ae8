"""Starts of a run in processes of their own, for tests that have them die.

Run as a script it takes one line of JSON per start, forks, and answers with one line
of how the start ended: what they all import is imported once.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp  # noqa: F401 - what starts load as they need it, loaded once

from sage_dask import Pipeline, failpoint
from sage_dask.operators import Generate, ReadJsonl, WriteCsv, WriteJsonl
from sage_dask.report import Report

# A start that hangs is a failure of the test, and does not stay behind.
_LIMIT_S = 30


def doubled(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with twice its number; one in thirteen can not be."""
    failpoint.reach("work")
    if record["n"] % 13 == 0:
        raise ValueError(f"{record['n']} is unlucky")
    return {**record, "double": 2 * record["n"]}


def is_wanted(record: dict[str, Any]) -> bool:
    """Drop one record in seven."""
    return bool(record["n"] % 7)


def parts(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one record in five as two."""
    number = 2 if record["n"] % 5 == 0 else 1
    return [{"n": record["n"], "part": part, "double": record["double"]} for part in range(number)]


def asked(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with a prompt; the model server refuses one in seventeen."""
    fault = " [[fault:400]]" if record["n"] % 17 == 0 else ""
    return {**record, "prompt": f"question {record['n']}.{record['part']}{fault}"}


def worked_out(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what does not depend on when the model was asked, one record in four as three."""
    failpoint.reach("work-after-call")
    if record["n"] % 19 == 0:
        raise ValueError(f"{record['n']} comes to nothing")
    number = 3 if record["n"] % 4 == 0 else 1
    return [{"n": record["n"], "copy": copy, "answer": record["answer"]} for copy in range(number)]


def is_kept(record: dict[str, Any]) -> bool:
    """Drop the copies of every other such record."""
    return not record["copy"] or record["n"] % 8 == 0


def plain(folder: Path, output: str, endpoint: str) -> Pipeline:
    """Return a pipeline in which records of every fate follow each other."""
    kind = WriteCsv if output.endswith(".csv") else WriteJsonl
    return (
        Pipeline("plain")
        .source(ReadJsonl(folder / "input.jsonl", id="key"))
        .map(doubled)
        .filter(is_wanted)
        .flat_map(parts)
        .sink(kind(folder / output))
    )


def costly(folder: Path, output: str, endpoint: str) -> Pipeline:
    """Return a pipeline that asks a model server, and goes on with the answers."""
    ask = Generate(endpoint, "timed", max_tokens=16, cache=False)
    return (
        Pipeline("costly")
        .source(ReadJsonl(folder / "input.jsonl", id="key"))
        .filter(is_wanted)
        .map(doubled)
        .flat_map(parts)
        .map(asked)
        .stage("ask", ask)
        .flat_map(worked_out)
        .filter(is_kept)
        .sink(WriteJsonl(folder / output))
    )


def _run(order: dict[str, Any]) -> Report:
    make = {"plain": plain, "costly": costly}[order["pipeline"]]
    folder = Path(order["folder"])
    pipeline = make(folder, order["output"], order.get("endpoint", ""))
    return pipeline.run(run_dir=folder / "run", **order.get("options", {}))


def _start(order: dict[str, Any], answers: int) -> None:
    """Run in a process of its own, and write the report or the error."""
    signal.alarm(_LIMIT_S)
    os.environ[failpoint.VARIABLE] = order.get("failpoint", "")
    importlib.reload(failpoint)
    try:
        report = asdict(_run(order))
        answer = {name: value for name, value in report.items() if name.startswith("num_")}
        answer["requests"] = sum(stage["usage"]["requests"] for stage in report["stages"].values())
    except BaseException as error:
        answer = {"error": "\n".join([f"{type(error).__name__}: {error}", *_notes(error)])}
    os.write(answers, json.dumps(answer).encode())
    os._exit(1 if "error" in answer else 0)


def _notes(error: BaseException) -> list[str]:
    return getattr(error, "__notes__", [])


def main() -> None:
    """Start as ordered, one after the other, until there are no more orders."""
    for line in sys.stdin:
        incoming, outgoing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(incoming)
            _start(json.loads(line), outgoing)
        os.close(outgoing)
        with os.fdopen(incoming) as answer:
            text = answer.read()
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"code": code, **json.loads(text or "{}")}), flush=True)


if __name__ == "__main__":
    main()
