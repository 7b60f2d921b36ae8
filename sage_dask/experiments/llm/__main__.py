"""Prints the table, a row as soon as it is measured, and keeps raw results beside it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sage_dask.experiments.llm.bench import QUICK, Bench, Scale
from sage_dask.experiments.llm.fairness import fairness
from sage_dask.experiments.llm.faults import faults
from sage_dask.experiments.llm.gates import gates
from sage_dask.experiments.llm.prefix import prefix
from sage_dask.experiments.llm.real import real
from sage_dask.experiments.llm.recovery import recovery
from sage_dask.experiments.llm.throughput import throughput
from sage_dask.experiments.table import Row, header

PARTS: Mapping[str, Callable[[Bench], Iterator[Row]]] = {
    "throughput": throughput,
    "gates": gates,
    "recovery": recovery,
    "fairness": fairness,
    "prefix": prefix,
    "faults": faults,
    "real": real,
}


def run(bench: Bench, parts: list[str], folder: Path | None) -> int:
    """Measure parts; return the exit code, 1 if anything happened that must not."""
    lines = [header()]
    print(lines[0])
    bench.note_origin()
    for part in parts or PARTS:
        for row in PARTS[part](bench):
            print(row, flush=True)
            lines.append(str(row))
    lines += [f"PROBLEM: {problem}" for problem in bench.problems]
    for line in lines[len(lines) - len(bench.problems) :]:
        print(line)
    if folder is not None and bench.raw is not None:
        bench.raw.with_suffix(".txt").write_text("\n".join([*lines, ""]), encoding="utf-8")
        print(f"raw results: {bench.raw}")
    return 1 if bench.problems else 0


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(prog="bench-llm", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all by default")
    parser.add_argument("--quick", action="store_true", help="only see that it works")
    parser.add_argument("--requests", type=int, help="of each run whose wall time is measured")
    parser.add_argument("--rounds", type=int, help="of which medians are taken")
    parser.add_argument("--seconds", type=float, help="of each run that is watched")
    parser.add_argument("--records", type=int, help="of each run with faults")
    parser.add_argument("--output", type=Path, default=Path("build/bench-llm"), help="folder")
    chosen = parser.parse_args()
    names = ("requests", "rounds", "seconds", "records")
    given = {name: value for name in names if (value := getattr(chosen, name)) is not None}
    scale = replace(QUICK if chosen.quick else Scale(), **given)
    chosen.output.mkdir(parents=True, exist_ok=True)
    raw = chosen.output / f"{datetime.now():%Y%m%d-%H%M%S}.jsonl"
    sys.exit(run(Bench(scale, raw), chosen.parts, chosen.output))


if __name__ == "__main__":
    main()
