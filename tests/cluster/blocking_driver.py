"""A driver with nodes of its own, whose later records wait until a file says to go on.

``python blocking_driver.py FOLDER`` reads FOLDER/input.jsonl, runs in FOLDER/run, and touches
FOLDER/blocked once a record waits.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sage_dask import Pipeline
from sage_dask.cluster import LocalNodes
from sage_dask.operators import ReadJsonl, WriteJsonl

NUM_FREE = 10
"""Records that do not wait."""

# A test that failed to say so must not leave the driver for ever.
_MOST_LOOKS = 6000


def main() -> None:
    """Run to the end."""
    folder = Path(sys.argv[1])

    def waited(record: dict[str, Any]) -> dict[str, Any]:
        import threading

        if record["n"] >= NUM_FREE:
            (folder / "blocked").touch()
            for _ in range(_MOST_LOOKS):
                if (folder / "go").exists():
                    break
                threading.Event().wait(0.01)
        return {**record, "double": 2 * record["n"]}

    pipeline = (
        Pipeline("p")
        .source(ReadJsonl(str(folder / "input.jsonl"), id="n"))
        .map(waited)
        .sink(WriteJsonl(str(folder / "out.jsonl")))
    )
    with LocalNodes(2, dashboard=None) as nodes:
        report = pipeline.run(nodes, run_dir=folder / "run", batch_size=2)
    print(report.num_starts, report.num_read, report.num_written)


if __name__ == "__main__":
    main()
