"""What a timed server imitates: how many seats, how fast, how much memory, and what goes wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sage_dask.errors import PlanError, listed

_SPREADS = ("uniform", "normal")

# Of these the server needs one at least, or some of it.
_AT_LEAST_ONE = ("seats", "kv_tokens", "max_model_len", "max_batched_tokens", "embedding_size")
_NOT_NEGATIVE = (
    *("jitter_s", "step_s", "step_per_sequence_s", "prefill_per_token_s"),
    *("prefix_blocks", "max_queued", "latency_s", "answer_tokens"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedOptions:
    """How a timed server behaves; every field has a flag of ``sage-dask serve --timed``.

    Without ``latency_s`` the server batches continuously, as vLLM does: time goes by in steps,
    and a step takes ``step_s + step_per_sequence_s * sequences + prefill_per_token_s * prompt
    tokens``.  The defaults are the order of magnitude of a 7B model on one datacentre GPU.

    Raises:
        PlanError: A value that no server could have.
    """

    model: str = "timed"
    """Name of the model that requests must ask for."""
    seats: int = 64
    """Sequences that run at a time, as vLLM's ``--max-num-seqs``."""
    latency_s: float | None = None
    """Mean seconds a request holds its seat, whatever its length; None: it depends on tokens."""
    jitter_s: float = 0.0
    """Around ``latency_s``: half the width if uniform, the standard deviation if normal."""
    spread: str = "uniform"
    """How latencies are drawn: ``"uniform"`` or ``"normal"``."""
    step_s: float = 0.015
    """Seconds of a step of an empty batch."""
    step_per_sequence_s: float = 0.0002
    """Seconds that each sequence of the batch adds to a step."""
    prefill_per_token_s: float = 0.00005
    """Seconds that each token of a prompt adds to the step that takes it in."""
    max_batched_tokens: int = 8192
    """Tokens of one step at the most; longer prompts are taken in over several."""
    kv_tokens: int = 262_144
    """Tokens that the KV cache holds, over all running sequences."""
    prefix_blocks: int = 16_384
    """Blocks of 16 tokens that the prefix cache remembers; 0 switches it off."""
    max_queued: int | None = None
    """Sequences, running and waiting, beyond which requests get a 503; None for no limit."""
    max_model_len: int = 8192
    """Tokens of prompt and answer together."""
    answer_tokens: int | None = None
    """Length of an answer if the request allows that much; None: as long as it allows."""
    echo: bool = False
    """Answer with the prompt, or with its last message, instead of noise."""
    request_metrics: bool = False
    """Have an answer tell how long it waited and took, as vLLM's ``--enable-per-request-metrics``:
    in the engine's own seconds, so that what a brown-out adds is seen from outside alone."""
    embedding_size: int = 384
    """Width of the vectors of ``/v1/embeddings``."""
    api_key: str | None = field(default=None, repr=False)
    """Key that requests to ``/v1`` must bring; None: everyone is served."""
    script: str | Path | Mapping[str, Any] | None = None
    """Faults to plant: a JSON or YAML file, or what it would hold; see :class:`.FaultScript`."""
    seed: int = 0
    """Of latencies, noise and faults."""

    def __post_init__(self) -> None:
        for name in _AT_LEAST_ONE:
            self._require(name, 1)
        for name in _NOT_NEGATIVE:
            self._require(name, 0)
        if self.spread not in _SPREADS:
            raise PlanError(f"TimedOptions: spread={self.spread!r} is none of {listed(_SPREADS)}")
        if self.kv_tokens < self.max_model_len:
            raise PlanError(
                f"TimedOptions: kv_tokens={self.kv_tokens} can not hold one sequence of "
                f"max_model_len={self.max_model_len} tokens; raise the one or lower the other"
            )

    def _require(self, name: str, least: float) -> None:
        value = getattr(self, name)
        if value is not None and value < least:
            raise PlanError(f"TimedOptions: {name}={value} must be {least} or more")
