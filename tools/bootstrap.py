"""Make the virtual environment, say what is happening, and fail in one clear line.

Run by make; needs nothing but the standard library.  The environment is stamped
with a fingerprint of what was asked for, so a second run returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MINIMUM_PYTHON = (3, 11)
FREE_GIB = 5.0  # torch, transformers and the wheels pip unpacks on the way

# Pinned: a later torch would be a different build, and on Linux a far larger one.
TORCH = "torch==2.13.0"

# What pip prints when it fails, and what that means for whoever reads it.
NO_INDEX = (
    "NewConnectionError|Temporary failure in name resolution|ConnectTimeout|ReadTimeout|"
    "ProxyError|Network is unreachable|SSLError"
)
NO_COMPILER = (
    r"[Uu]nable to execute '?\S*(?:gcc|cc|clang)|command '?\S*(?:gcc|cc|g\+\+)'? failed|"
    r"No C compiler|Could NOT find.*compiler"
)
CAUSES = (
    (r"No space left on device", "the disk is full; free {free:.0f} GiB and run make again"),
    (
        NO_INDEX,
        "no package index can be reached; check the network, or set PIP_INDEX_URL to a mirror",
    ),
    (
        NO_COMPILER,
        "a package had to be compiled and no C compiler works; install gcc (or clang) and headers",
    ),
    (
        r"No matching distribution found for (\S+)",
        "the package index has no {match} for this Python and platform; try Python 3.11 to 3.13",
    ),
    (r"Permission denied", "a folder can not be written; look at its owner and run make again"),
)


def main() -> int:
    """Make or refresh the environment; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    parser.add_argument("--extras", default="rag,dev")
    chosen = parser.parse_args()
    stamp = chosen.venv / "sage-dask-installed"
    wanted = fingerprint(chosen.extras)
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    try:
        check_machine(chosen.venv)
        install(chosen.venv, chosen.extras)
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    stamp.write_text(wanted)
    return 0


class Refusal(Exception):  # noqa: N818 - what it is, not what went wrong
    """Something is missing; the message is the one line that says what to do."""


def fingerprint(extras: str) -> str:
    """Return a digest of everything that decides what is installed."""
    digest = hashlib.sha256()
    for part in (ROOT / "pyproject.toml", Path(__file__)):
        digest.update(part.read_bytes())
    digest.update(f"{extras} {sys.version} {ROOT}".encode())
    return digest.hexdigest()


def check_machine(venv: Path, needed_gib: float = FREE_GIB) -> None:
    """Refuse what can be known to fail before anything is downloaded."""
    if sys.version_info < MINIMUM_PYTHON:
        raise Refusal(
            f"Python {sys.version.split()[0]} is too old; sage_dask needs "
            f"{'.'.join(map(str, MINIMUM_PYTHON))} or newer: make PYTHON=python3.11 ..."
        )
    for module in ("venv", "ensurepip"):
        try:
            __import__(module)
        except ImportError:
            raise Refusal(
                f"this Python has no {module!r} module; on Debian and Ubuntu: "
                "apt install python3-venv"
            ) from None
    free_gib = shutil.disk_usage(venv.parent).free / 2**30
    if free_gib < needed_gib:
        raise Refusal(
            f"{free_gib:.1f} GiB free in {venv.parent}, and the environment needs "
            f"{needed_gib:.0f}; free some, or link {venv.name} to another disk"
        )


def install(venv: Path, extras: str) -> None:
    """Create the environment and install the project into it, step by step."""
    print(f"Making {venv.name} (once; two to five minutes with a fast index)", flush=True)
    log = venv.parent / "build" / "bootstrap.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    run("environment", [sys.executable, "-m", "venv", str(venv)], log)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    if "rag" in extras.split(","):
        run(TORCH, [*pip, TORCH], log)
    run(f"sage-dask[{extras}]", [*pip, "--editable", f"{ROOT}[{extras}]"], log)


def run(what: str, command: list[str], log: Path) -> None:
    """Run one step, with a sign of life every few seconds, and explain its failure."""
    started = shown = time.monotonic()
    offset = log.stat().st_size
    with log.open("a") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
        )
        try:
            while process.poll() is None:
                time.sleep(0.1)
                if time.monotonic() - shown > 10:
                    shown = time.monotonic()
                    print(f"  ... {what}: {shown - started:.0f} s, {last_line(log)}", flush=True)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if process.returncode:
        raise Refusal(f"{what}: {cause(log.read_text(errors='replace')[offset:])} (log: {log})")
    print(f"  {what}: {time.monotonic() - started:.0f} s", flush=True)


def last_line(log: Path) -> str:
    """Return the last thing pip said, short."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
        lines = file.read().decode(errors="replace").split("\n")
    words = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return words[:70]


def cause(output: str) -> str:
    """Return what a failed step means, in words; its last error line where that is unknown."""
    for pattern, meaning in CAUSES:
        match = re.search(pattern, output)
        if match:
            name = match.group(1) if match.groups() else ""
            return meaning.format(free=FREE_GIB, match=name)
    errors = [line.strip() for line in output.splitlines() if "error" in line.lower()]
    return errors[-1][:200] if errors else "failed without a word"


if __name__ == "__main__":
    sys.exit(main())
