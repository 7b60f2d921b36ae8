"""The run that is killed: ``python driver.py FOLDER ENDPOINT nodes:3``, or an address."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sage_dask import Pipeline
from sage_dask.cluster import LocalNodes
from sage_dask.operators import Generate, ReadJsonl, WriteJsonl

BATCH_SIZE = 16
BATCHES_IN_FLIGHT = 8


def asked(record: dict[str, Any]) -> dict[str, Any]:
    """Return the record with a prompt; a few can not have one."""
    if record["n"] % 97 == 0:
        raise ValueError(f"{record['n']} is unlucky")
    return {**record, "prompt": f"question {record['n']}"}


def worked_out(record: dict[str, Any]) -> dict[str, Any]:
    """Return what does not depend on when the model was asked."""
    return {"n": record["n"], "answer": record["answer"]}


def pipeline(folder: Path, endpoint: str) -> Pipeline:
    """Return the pipeline: a model in the middle, and work before and behind it."""
    ask = Generate(endpoint, "timed", max_tokens=8, cache=False, attempts=8)
    return (
        Pipeline("chaos")
        .source(ReadJsonl(folder / "input.jsonl", id="key"))
        .map(asked)
        .stage("ask", ask, memo=True)
        .map(worked_out)
        .sink(WriteJsonl(folder / "output.jsonl"))
    )


def main() -> None:
    """Run to the end, from wherever the last start came to."""
    folder, endpoint, where = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    options: dict[str, Any] = {
        "run_dir": folder / "run",
        "batch_size": BATCH_SIZE,
        "max_in_flight": BATCHES_IN_FLIGHT,
    }
    kind, _, number = where.partition(":")
    if kind == "nodes":
        with LocalNodes(int(number), threads=2, dashboard=None) as nodes:
            pipeline(folder, endpoint).run(nodes, **options)
    else:
        pipeline(folder, endpoint).run(where, **options)


if __name__ == "__main__":
    main()
