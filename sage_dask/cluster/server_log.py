"""What the log of a model server says: the last of it, and why the server died.

vLLM dies with a hundred lines of traceback, often of another process than the
one that knew the cause; the patterns below find the line that matters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Cause:
    """One way to die."""

    pattern: str
    """How the log tells of it."""
    meaning: str
    """What it means; ``{match}`` is the pattern's group, ``{line}`` the line that it is in."""


# What vLLM 0.20 to 0.32, torch and transformers print, and what it means for whoever reads it.
# The first pattern found counts, so the particular comes before the general.
_CAUSES = (
    _Cause(
        r"No module named '?vllm\b",
        "vLLM is not installed for that Python; name the Python that has it in "
        "SAGE_DASK_VLLM_PYTHON, or install it: with a GPU pip install 'sage-dask[vllm]', "
        "without one 'make venv-vllm'",
    ),
    _Cause(
        r"[Aa]ddress already in use",
        "the port is taken; choose another, or none for any free one",
    ),
    _Cause(
        r"unrecognized arguments: ([^\n]+)",
        "this vLLM does not know {match}; install a newer one, or leave the option out",
    ),
    _Cause(
        r"error: argument (--[^\n]+(?:\n +[^\n]+)?)",
        "vLLM refuses an option, {match}",
    ),
    _Cause(
        r"CUDA out of memory|OutOfMemoryError|less than desired GPU memory utilization",
        "the GPU has too little memory free; stop what else uses it, choose a smaller model or "
        "max_model_len, or give vLLM a smaller share with --gpu-memory-utilization",
    ),
    _Cause(
        r"No available memory for the cache blocks|larger than the available KV cache|"
        r"KV cache (?:memory )?is needed",
        "there is no room for the KV cache of one longest request; lower max_model_len, or raise "
        "kv_cache_bytes",
    ),
    _Cause(
        r"less than desired CPU memory|Decrease --kv-cache-memory-bytes|MemoryError|"
        r"[Cc]annot allocate memory|std::bad_alloc",
        "the machine has too little memory free; stop what else uses it, or lower kv_cache_bytes",
    ),
    _Cause(
        r"greater than the derived max_model_len",
        "max_model_len is more than the model was made for; lower it",
    ),
    _Cause(
        r"gated repo|GatedRepoError|401 Client Error|403 Client Error",
        "the hub refuses the model; ask for access there, and put a token into HF_TOKEN",
    ),
    _Cause(
        r"Invalid repository ID or local directory|not a valid model identifier|"
        r"RepositoryNotFoundError|Repository Not Found|HFValidationError",
        "there is no such model; give a folder that holds config.json, or the full name of a "
        "model on Hugging Face, such as 'Qwen/Qwen2.5-3B-Instruct'",
    ),
    _Cause(
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to|"
        r"outgoing traffic has been disabled|Failed to resolve|NameResolutionError",
        "the model is not on this machine, and the hub can not be reached; download it before, "
        "or give the folder of one",
    ),
    _Cause(
        r"Cannot find any model weights|[Nn]o safetensors weights found",
        "the model's folder holds no weights; add them, or give --load-format dummy",
    ),
    _Cause(
        r"Failed to infer device type|NVML Shared Library Not Found|No CUDA GPUs are available",
        "this vLLM is built for a GPU, and finds none; use the CPU build ('make venv-vllm', and "
        "--cpu), or look at nvidia-smi",
    ),
    _Cause(
        r"undefined symbol|operator torchvision::|libcudart|libcublas|cannot open shared object|"
        r"No package metadata was found for vllm",
        "vLLM does not fit the torch beside it; install both afresh, in an environment of their "
        "own ('make venv-vllm' does that for the CPU build)",
    ),
    _Cause(
        r"Permission denied|Operation not permitted",
        "something may not be used: {line}",
    ),
)

# A line that vLLM, its engine or Python itself ends with.
_ERROR = re.compile(r"^(?:\([^)]*\) )?((?:[A-Za-z_][\w.]*)?(?:Error|Exception)\b.*)")

# As the logs of vLLM begin: "(EngineCore pid=1853) INFO 11-22 21:57:18 [core.py:185] ".
_PREFIX = re.compile(r"^(?:\([^)]*\)\s*)?(?:[A-Z]+ [\d-]+ [\d:]+ \[[^\]]*\]\s*)?")

_TAIL_BYTES = 256 << 10
_SHOWN_CHARS = 200


def read_tail(path: Path, start: int = 0) -> str:
    """Return the end of a log, from ``start`` at the earliest; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def cause(log: str, code: int | None = None) -> str:
    """Return why a server died, in words, with what to do about it where that is known.

    Args:
        log: What it printed.
        code: With which exit code it ended; below 0 or above 128 a signal ended it.
    """
    for known in _CAUSES:
        match = re.search(known.pattern, log)
        if match:
            found = " ".join(match.group(1).split()) if match.groups() else ""
            return known.meaning.format(match=found, line=_line_around(log, match.start()))
    if code in (-9, 137):
        return (
            "something killed it, which is what a machine does that runs out of memory; see "
            "'dmesg', and lower kv_cache_bytes or choose a smaller model"
        )
    return _last_error(log) or last_line(log) or "it said nothing"


def last_line(log: str) -> str:
    """Return the last thing that was said, without date and source, short."""
    # A progress bar draws over its own line.
    lines = (line.strip() for line in re.split(r"[\r\n]", log))
    words = [line for line in lines if line]
    return _PREFIX.sub("", words[-1])[:_SHOWN_CHARS] if words else ""


def _last_error(log: str) -> str:
    found = [match.group(1) for line in log.splitlines() if (match := _ERROR.match(line.strip()))]
    # The API server's last words only send the reader to the engine's.
    telling = [line for line in found if "See root cause above" not in line] or found
    return telling[-1][:_SHOWN_CHARS] if telling else ""


def _line_around(log: str, place: int) -> str:
    start = log.rfind("\n", 0, place) + 1
    end = log.find("\n", place)
    return log[start : end if end >= 0 else None].strip()[:_SHOWN_CHARS]
