"""What all parts share: how much is measured, where raw results go, what must not happen."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from sage_dask.experiments.llm.result import Result
from sage_dask.version import versions

_FURTHER_PACKAGES = ("aiohttp", "psutil", "numpy")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    requests: int = 5_000
    """Of each run whose wall time is measured."""
    rounds: int = 3
    """Of which medians are taken."""
    seconds: float = 45.0
    """Of each run that is watched."""
    records: int = 400
    """Of each run with faults."""


QUICK = Scale(requests=600, rounds=1, seconds=12.0, records=100)
"""To see that it works; its figures mean nothing."""


@dataclass
class Bench:
    """One call of the benchmark."""

    scale: Scale = field(default_factory=Scale)
    raw: Path | None = None
    """File of JSON lines that takes what each run came to; the first line says where and how."""
    problems: list[str] = field(default_factory=list)
    """What must not happen, and did."""

    def note(self, part: str, what: str, **facts: Any) -> None:
        """Keep what a run came to, beside the table."""
        if self.raw is not None:
            with self.raw.open("a", encoding="utf-8") as file:
                line = {"part": part, "what": what, **facts}
                file.write(json.dumps(line, default=_plain) + "\n")

    def note_run(self, part: str, what: str, result: Result, **facts: Any) -> None:
        """Keep what a run of a load came to, and see that none of its records was lost."""
        self.require(result.lost == 0, f"{part}, {what}: {result.lost} records lost")
        self.note(part, what, result=result, **facts)

    def note_origin(self) -> None:
        """Keep what results depend on: machine, versions, commit, command."""
        self.note(
            "origin",
            "here",
            command=sys.argv,
            scale=self.scale,
            started_at=datetime.now().astimezone().isoformat(timespec="seconds"),
            versions=_versions(),
            commit=_commit(),
            machine=_machine(),
        )

    def require(self, holds: bool, problem: str) -> None:
        """Note a problem where something does not hold that must."""
        if not holds:
            self.problems.append(problem)
            self.note("problem", problem)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(value) if isinstance(value, Mapping) else str(value)


def _versions() -> dict[str, str]:
    found = versions()
    for package in _FURTHER_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "load": os.getloadavg(),
    }


def _commit() -> str:
    """Return the commit of the checkout that this runs from; nothing where it is none."""
    folder = Path(__file__).parent
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip()
