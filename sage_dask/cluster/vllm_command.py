"""How vLLM's server is called: its command line, its environment, and where it is installed.

Nothing here starts anything.  The CPU build wants other words than the GPU one:
it is called as a module, and told how much memory it may have.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from sage_dask.errors import MissingDependencyError, PlanError, listed

Device: TypeAlias = Literal["gpu", "cpu"]

PYTHON_VARIABLE = "SAGE_DASK_VLLM_PYTHON"
"""Names the Python that has vLLM, where that is not the one which runs sage_dask."""

# Without a figure the CPU build wants 92 % of the host's memory free.
_CPU_KV_CACHE_BYTES = 256 << 20

# What is a parameter of its own, or decides who may reach the server.
_OWN_FLAGS = frozenset({"--model", "--served-model-name", "--host", "--port", "--api-key", "--uds"})


@dataclass(frozen=True, slots=True)
class VllmOptions:
    """What vLLM is told beyond model and address; None leaves a choice to vLLM."""

    name: str | None = None
    """What requests call the model; by default the name of its folder, or what was given."""
    max_model_len: int | None = None
    """Longest prompt with its answer, in tokens."""
    max_num_seqs: int | None = None
    """Most requests in one batch."""
    max_num_queued_reqs: int | None = None
    """Most requests in the server, running or waiting; others are answered 503.  None: no limit."""
    kv_cache_bytes: int | None = None
    """Memory for the KV cache; 256 MiB on a CPU, nearly all of a GPU."""
    dtype: str | None = None
    """Type of the weights; float32 on a CPU."""
    priorities: bool = False
    """Whether requests may carry ``priority``; the lowest number goes first."""
    request_metrics: bool = False
    """Whether each answer says how long it waited and how long it took."""
    extra: tuple[str, ...] = ()
    """Further words of vLLM's command line, such as ``("--tensor-parallel-size", "2")``."""

    def __post_init__(self) -> None:
        given = {word.partition("=")[0] for word in self.extra}
        if clash := _OWN_FLAGS & given:
            raise PlanError(
                f"VllmOptions: extra can not set {listed(clash)}; each has a parameter of its own "
                "(a key goes into the variable VLLM_API_KEY, where nobody sees it)"
            )

    def flags(self, device: Device) -> list[str]:
        """Return the words that say all this on vLLM's command line."""
        is_cpu = device == "cpu"
        values = {
            "--max-model-len": self.max_model_len,
            "--max-num-seqs": self.max_num_seqs,
            "--max-num-queued-reqs": self.max_num_queued_reqs,
            "--kv-cache-memory-bytes": self.kv_cache_bytes
            or (_CPU_KV_CACHE_BYTES if is_cpu else None),
            "--dtype": self.dtype or ("float32" if is_cpu else None),
            "--scheduling-policy": "priority" if self.priorities else None,
        }
        switches = {
            # Compiling takes minutes on a CPU, and gains nothing for what is served from one.
            "--enforce-eager": is_cpu,
            "--enable-per-request-metrics": self.request_metrics,
        }
        said = [word for flag, value in values.items() if value for word in (flag, str(value))]
        return [*said, *(flag for flag, is_on in switches.items() if is_on), *self.extra]


def served_name(model: str, options: VllmOptions) -> str:
    """Return what requests call a model; a folder is known by its last name, not by its path."""
    if options.name is not None:
        return options.name
    return Path(model).resolve().name if is_folder(model) else model


def vllm_command(
    python: str, model: str, host: str, port: int, device: Device, options: VllmOptions
) -> list[str]:
    """Return the command line of a server.

    Args:
        python: The Python that has vLLM.
        model: A folder, or a name that Hugging Face knows.
        host: Address to listen on.
        port: Port to listen on; not 0.
        device: What the model runs on.
        options: Everything else.
    """
    # The script `vllm` of the CPU build does not start: it looks for a package of another name.
    program = (
        ["vllm.entrypoints.openai.api_server", "--model", model]
        if device == "cpu"
        else ["vllm.entrypoints.cli.main", "serve", model]
    )
    where = ["--host", host, "--port", str(port)]
    name = ["--served-model-name", served_name(model, options)]
    return [python, "-m", *program, *where, *name, *options.flags(device)]


def vllm_environment(model: str, device: Device, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a server; what the user has set himself stands."""
    ours = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    if is_folder(model):
        # Everything is there; asking the hub would only wait for its time-outs.
        ours |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    if device == "cpu":
        # By default vLLM binds its threads to the first cores: two servers would share them.
        # Half of the cores: the others are for the server's own loop, and for who asks.
        threads = max(1, (os.cpu_count() or 2) // 2)
        ours |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(threads)}
    return {**ours, **inherited}


def find_device(folder: Path = Path("/dev")) -> Device:
    """Return ``"gpu"`` where this machine has one that this process may use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in ("", "-1"):
        return "cpu"
    has_gpu = any(folder.glob("nvidia[0-9]*")) or (folder / "kfd").exists()
    return "gpu" if has_gpu else "cpu"


def find_python(chosen: str | None = None) -> str:
    """Return the Python that has vLLM: the chosen one, this one, or ``.venv-vllm`` beside it.

    Raises:
        MissingDependencyError: None of them is there.
    """
    for python in (chosen, os.environ.get(PYTHON_VARIABLE)):
        if python:
            return _existing(python)
    if importlib.util.find_spec("vllm") is not None:
        return sys.executable
    beside = Path(sys.prefix).parent / ".venv-vllm" / "bin" / "python"
    if beside.exists():
        return str(beside)
    raise MissingDependencyError(
        f"vLLM is not installed for {sys.executable}; with a GPU: pip install 'sage-dask[vllm]', "
        "without one: make venv-vllm in a checkout of sage_dask, or name the Python that has it "
        f"in {PYTHON_VARIABLE}; 'sage-dask serve --timed' needs none"
    )


def is_folder(model: str) -> bool:
    """Return whether a model is a folder of this machine rather than a name to download."""
    return Path(model).is_dir()


def _existing(python: str) -> str:
    if not Path(python).exists():
        raise MissingDependencyError(
            f"there is no Python at {python!r} to run vLLM with; give the path of one, as "
            f"python=... or in {PYTHON_VARIABLE}"
        )
    return python
