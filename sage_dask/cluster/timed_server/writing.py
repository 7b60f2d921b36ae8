"""What a timed server answers: noise of the right length, an echo, or an instance of a schema."""

from __future__ import annotations

from dataclasses import dataclass

from sage_dask.cluster.timed_server.asking import Ask, Prompt
from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.schema_instance import instance_text
from sage_dask.cluster.timed_server.text import (
    CHARS_PER_TOKEN,
    cut_at_stop,
    noise,
    num_tokens,
    tokens_of,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it will be, before any time was spent on it."""

    text: str
    tokens: int
    finish_reason: str
    """``"stop"`` where it ends by itself, ``"length"`` where it was cut off."""
    stop_reason: str | None = None
    """The stop string that ended it."""

    def piece(self, start: int, end: int) -> str:
        """Return the text of some of its tokens."""
        return self.text[start * CHARS_PER_TOKEN : end * CHARS_PER_TOKEN]


def write_answer(
    ask: Ask, prompt: Prompt, options: TimedOptions, *, index: int, number: int
) -> Answer:
    """Write an answer.

    Args:
        ask: What is wanted.
        prompt: One of the request's prompts.
        options: Of the server.
        index: Which of the prompt's answers.
        number: Ordinal number of the request: sampling without a seed never repeats itself.
    """
    text, has_end = _draft(ask, prompt, options, (index, number))
    cut = text[: ask.max_tokens * CHARS_PER_TOKEN]
    cut, stop = cut_at_stop(cut, ask.stop)
    ends = stop is not None or (has_end and len(cut) == len(text))
    # The token that a stop string is found in was computed, though it is not shown.
    tokens = min(ask.max_tokens, num_tokens(cut + (stop or "")))
    return Answer(cut, tokens, "stop" if ends else "length", stop)


def _draft(
    ask: Ask, prompt: Prompt, options: TimedOptions, which: tuple[int, int]
) -> tuple[str, bool]:
    """Return a text, and whether it is complete: noise can always go on."""
    if ask.schema is not None:
        return instance_text(ask.schema), True
    if options.echo:
        return prompt.last, True
    index, number = which
    is_repeatable = ask.temperature == 0 or ask.seed is not None
    seed = (options.seed, ask.seed, index, None if is_repeatable else number)
    wanted = ask.max_tokens
    if options.answer_tokens is not None and not ask.ignores_end:
        wanted = min(wanted, options.answer_tokens)
    return noise(wanted, prompt.text, seed), wanted < ask.max_tokens


def logprobs_of(answer: Answer, start: int, end: int, ask: Ask) -> dict[str, object] | None:
    """Return the probabilities of some of an answer's tokens, in the shape of the request's API."""
    if ask.num_logprobs is None:
        return None
    tokens = tokens_of(answer.piece(start, end))
    if ask.is_chat:
        return {"content": [_chat_logprob(token, ask.num_logprobs) for token in tokens]}
    return {
        "text_offset": [(start + i) * CHARS_PER_TOKEN for i in range(len(tokens))],
        "token_logprobs": [_logprob(token) for token in tokens],
        "tokens": tokens,
        "top_logprobs": [dict(_alternatives(token, ask.num_logprobs)) for token in tokens],
    }


def _chat_logprob(token: str, count: int) -> dict[str, object]:
    return {
        **_entry(token, _logprob(token)),
        "top_logprobs": [_entry(*each) for each in _alternatives(token, count)[:count]],
    }


def _entry(token: str, logprob: float) -> dict[str, object]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _alternatives(token: str, count: int) -> list[tuple[str, float]]:
    """Return the token itself and others that are less likely."""
    others = [(f"{token[:2]}{i:02}", _logprob(token) - i) for i in range(1, count)]
    return [(token, _logprob(token)), *others]


def _logprob(token: str) -> float:
    """Return a made-up probability, the same for the same token."""
    return -(sum(token.encode()) % 97 + 1) / 64
