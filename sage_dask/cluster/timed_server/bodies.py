"""The JSON of answers, with the fields of vLLM 0.32; what no timed server knows is null."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sage_dask.cluster.timed_server.asking import Ask
from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.work import Finished
from sage_dask.cluster.timed_server.writing import Answer, logprobs_of
from sage_dask.version import __version__

FINGERPRINT = f"timed-{__version__}"
END_OF_STREAM = b"data: [DONE]\n\n"

_MESSAGE_EXTRAS: Mapping[str, Any] = dict.fromkeys(
    ("refusal", "annotations", "audio", "function_call", "reasoning")
)
_CHAT_EXTRAS: Mapping[str, Any] = dict.fromkeys(
    (
        *("prompt_logprobs", "prompt_token_ids", "prompt_text"),
        *("kv_transfer_params", "ec_transfer_params"),
    )
)
_PLAIN_EXTRAS: Mapping[str, Any] = dict.fromkeys(("kv_transfer_params", "ec_transfer_params"))
_PLAIN_CHOICE_EXTRAS: Mapping[str, Any] = dict.fromkeys(
    ("token_ids", "prompt_logprobs", "prompt_token_ids", "routed_experts")
)


def usage(prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> dict[str, Any]:
    """Return what a request cost, in vLLM's shape with ``--enable-prompt-tokens-details``."""
    return {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "completion_tokens": completion_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
        "completion_tokens_details": None,
    }


def request_metrics(done: Finished, tokens: int) -> dict[str, Any]:
    """Return where the time of a request went that is one sequence.

    Args:
        done: When it did what; what is told is in the same seconds, the engine's.
        tokens: Of its answer.
    """
    generation_s = done.finished_s - done.first_token_s
    running_s = done.finished_s - done.started_s
    return {
        "time_to_first_token_ms": (done.first_token_s - done.started_s) * 1000,
        "generation_time_ms": generation_s * 1000,
        "queue_time_ms": (done.started_s - done.arrived_s) * 1000,
        "mean_itl_ms": generation_s * 1000 / (tokens - 1) if tokens > 1 else None,
        "tokens_per_second": tokens / running_s if running_s else None,
    }


def whole(
    name: str,
    ask: Ask,
    answers: Sequence[Answer],
    spent: Mapping[str, Any],
    metrics: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return an answer that is not streamed; without ``metrics`` it tells none."""
    choice = _chat_choice if ask.is_chat else _plain_choice
    return {
        "id": _answer_id(name, ask),
        "object": "chat.completion" if ask.is_chat else "text_completion",
        "created": int(time.time()),
        "model": ask.model,
        "choices": [choice(index, answer, ask) for index, answer in enumerate(answers)],
        "service_tier": None,
        "system_fingerprint": FINGERPRINT,
        "usage": spent,
        "metrics": metrics,
        **(_CHAT_EXTRAS if ask.is_chat else _PLAIN_EXTRAS),
    }


def _chat_choice(index: int, answer: Answer, ask: Ask) -> dict[str, Any]:
    return {
        "index": index,
        "message": {"role": "assistant", "content": answer.text, **_MESSAGE_EXTRAS},
        "logprobs": logprobs_of(answer, 0, answer.tokens, ask),
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": None,
        "routed_experts": None,
    }


def _plain_choice(index: int, answer: Answer, ask: Ask) -> dict[str, Any]:
    return {
        "index": index,
        "text": answer.text,
        "logprobs": logprobs_of(answer, 0, answer.tokens, ask),
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        **_PLAIN_CHOICE_EXTRAS,
    }


@dataclass(frozen=True, slots=True)
class StreamWriter:
    """The events of one streamed answer."""

    name: str
    ask: Ask
    created: int

    def opening(self, index: int) -> bytes:
        """Return the first event of a chat's choice: who speaks."""
        delta = {"role": "assistant", "content": ""}
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}
        return self._event([choice], {"prompt_token_ids": None, "prompt_text": None})

    def piece(self, index: int, answer: Answer, start: int, end: int) -> bytes:
        """Return the event of some tokens; the last one says why the answer ends."""
        is_last = end >= answer.tokens
        text = answer.piece(start, end)
        choice = {
            "index": index,
            **({"delta": {"content": text}} if self.ask.is_chat else {"text": text}),
            "logprobs": logprobs_of(answer, start, end, self.ask),
            "finish_reason": answer.finish_reason if is_last else None,
            "token_ids": None,
        }
        if not self.ask.is_chat:
            choice["prompt_token_ids"] = None
        if is_last or not self.ask.is_chat:
            choice["stop_reason"] = answer.stop_reason if is_last else None
        return self._event([choice], {"system_fingerprint": FINGERPRINT} if is_last else {})

    def closing(self, spent: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> bytes:
        """Return the event with the usage, and with the metrics if there are any."""
        counts = {word: spent[word] for word in spent if not word.endswith("_details")}
        details = {"prompt_tokens_details": spent["prompt_tokens_details"]}
        more = {"usage": {**counts, **details}, "system_fingerprint": FINGERPRINT}
        if metrics is not None:
            # Unlike whole answers, events leave out what is not known.
            more["metrics"] = {name: each for name, each in metrics.items() if each is not None}
        return self._event([], more)

    def _event(self, choices: list[dict[str, Any]], more: Mapping[str, Any]) -> bytes:
        body = {
            "id": _answer_id(self.name, self.ask),
            "object": "chat.completion.chunk" if self.ask.is_chat else "text_completion",
            "created": self.created,
            "model": self.ask.model,
            "choices": choices,
            **more,
        }
        return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _answer_id(name: str, ask: Ask) -> str:
    return f"{'chatcmpl' if ask.is_chat else 'cmpl'}-{name}"


def models(options: TimedOptions, started: int) -> dict[str, Any]:
    """Return the list of models, which is one."""
    card = {
        "id": options.model,
        "object": "model",
        "created": started,
        "owned_by": "sage-dask",
        "root": options.model,
        "parent": None,
        "max_model_len": options.max_model_len,
        "permission": [],
    }
    return {"object": "list", "data": [card]}
