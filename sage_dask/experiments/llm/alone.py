"""A load in a process of its own, ours or the plain one: nothing else on its loop or its lock.

A fresh process has found out nothing about any server yet.  The load goes in as
JSON on the standard input, and what it came to comes out on the standard output.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict

from sage_dask.experiments.llm.load import Load, Tally
from sage_dask.experiments.llm.plain import ask_plainly
from sage_dask.experiments.llm.result import Result

# Longer than any run of any part.
_TIMEOUT_S = 1800.0


class Alone:
    """A run under way in another process.

    Args:
        load: What to ask.
        in_flight: Requests that a plain client has under way; None runs ours.
    """

    def __init__(self, load: Load, in_flight: int | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._order = json.dumps({"load": asdict(load), "in_flight": in_flight})
        if self._process.stdin is not None:
            self._process.stdin.write(self._order + "\n")
            self._process.stdin.flush()

    def result(self) -> Result:
        """Wait for the end, and return what the run came to.

        Raises:
            RuntimeError: It ended in another way; what it said stands above.
        """
        try:
            said, _ = self._process.communicate(timeout=_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
        if self._process.returncode:
            raise RuntimeError(f"run of {self._order}: exit code {self._process.returncode}")
        return Result(**json.loads(said))


def run_here(load: Load) -> Result:
    """Run a load through our pipeline, in this process."""
    tally = Tally()
    pipeline = load.pipeline(tally)
    began_s = time.process_time()
    report = pipeline.run()
    return Result.of(report, time.process_time() - began_s, tally.rows)


def run_plainly(load: Load, in_flight: int) -> Result:
    """Run a load through the plain client, in this process."""
    began_s = time.process_time()
    sent, answered, seconds = asyncio.run(ask_plainly(load, in_flight))
    return Result(
        read=sent,
        written=answered,
        failed=sent - answered,
        makespan_s=seconds,
        cpu_s=time.process_time() - began_s,
        sent=sent,
    )


def main() -> None:
    """Run what is ordered."""
    order = json.loads(sys.stdin.readline())
    load, in_flight = Load(**order["load"]), order["in_flight"]
    result = run_here(load) if in_flight is None else run_plainly(load, in_flight)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
