"""The flags of ``sage-dask serve --timed``: one for each thing that a timed server imitates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sage_dask.cluster.timed_server.options import TimedOptions

F = TypeVar("F", bound=Callable[..., Any])

_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0)

# Parameter of TimedOptions, its flag, its type, what it means.  Defaults are those of
# TimedOptions, so that they are written once.
_FLAGS: tuple[tuple[str, str, Any, str], ...] = (
    ("seats", "--seats", _COUNT, "Requests that are answered at a time (64)."),
    ("latency_s", "--latency", _SECONDS, "Mean seconds per answer, whatever its length."),
    ("jitter_s", "--jitter", _SECONDS, "How far latencies spread around that mean (0)."),
    ("spread", "--spread", click.Choice(["uniform", "normal"]), "How they spread (uniform)."),
    ("step_s", "--step", _SECONDS, "Seconds of a step of an empty batch (0.015)."),
    (
        "step_per_sequence_s",
        "--step-per-sequence",
        _SECONDS,
        "Seconds that each running request adds to a step (0.0002).",
    ),
    (
        "prefill_per_token_s",
        "--prefill-per-token",
        _SECONDS,
        "Seconds that each token of a prompt takes (0.00005).",
    ),
    ("max_batched_tokens", "--max-batched-tokens", _COUNT, "Tokens of one step (8192)."),
    ("kv_tokens", "--kv-tokens", _COUNT, "Tokens that the KV cache holds (262144)."),
    (
        "prefix_blocks",
        "--prefix-blocks",
        click.IntRange(min=0),
        "Blocks of 16 tokens that the prefix cache remembers (16384).",
    ),
    ("max_queued", "--max-queued", click.IntRange(min=0), "Requests beyond which it says 503."),
    ("answer_tokens", "--answer-tokens", _COUNT, "Length of an answer, where it may be as long."),
    ("embedding_size", "--embedding-size", _COUNT, "Width of the vectors of embeddings (384)."),
    ("echo", "--echo", None, "Answer with the prompt instead of noise."),
    (
        "script",
        "--faults",
        click.Path(exists=True, dir_okay=False, path_type=Path),
        "JSON or YAML file of faults to plant.",
    ),
    ("seed", "--seed", int, "Of latencies, noise and faults (0)."),
)

NAMES = frozenset(name for name, *_ in _FLAGS)

# Options under flags that a real server has, too.
SHARED = frozenset({"max_model_len", "request_metrics"})


def timed_flags(command: F) -> F:
    """Add the flags to a command; those that are not given are None."""
    for name, flag, kind, text in reversed(_FLAGS):
        shape: dict[str, Any] = {"type": kind} if kind is not None else {"is_flag": True}
        command = click.option(flag, name, default=None, help=f"Timed: {text}", **shape)(command)
    return command


def timed_options(
    given: Mapping[str, Any], *, model: str | None, api_key: str | None
) -> TimedOptions:
    """Return what was said by flags.

    Raises:
        PlanError: A value that no server could have.
    """
    from sage_dask.cluster.timed_server.options import TimedOptions

    named = {*NAMES, *SHARED}
    said = {name: value for name, value in given.items() if name in named and value is not None}
    if model is not None:
        said["model"] = model
    return TimedOptions(**said, api_key=api_key)
