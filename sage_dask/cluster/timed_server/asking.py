"""Reading a request for text: what is wanted, or vLLM's words for why it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.refusal import RefusalError, invalid, refused
from sage_dask.cluster.timed_server.text import block_keys, num_tokens

# vLLM's default for completions; for chats it goes on to the end of the context, which
# noise, having no end of its own, would always reach.
_DEFAULT_TOKENS = {"completions": 16, "chat": 128}


@dataclass(frozen=True)
class Prompt:
    """What one answer is wanted for."""

    text: str
    tokens: int
    last: str = ""
    """The last message alone, where there are several."""

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Keys of its full blocks, each of which stands for all before it as well."""
        return block_keys(self.text)


@dataclass(frozen=True, slots=True)
class Ask:
    """A request for text."""

    is_chat: bool
    model: str
    prompts: Sequence[Prompt]
    max_tokens: int
    """Of each answer."""
    n: int = 1
    temperature: float = 1.0
    seed: int | None = None
    stop: Sequence[str] = ()
    is_streamed: bool = False
    with_usage: bool = False
    """Whether a stream ends with the usage."""
    num_logprobs: int | None = None
    """Alternatives to each token; None without probabilities at all."""
    schema: Any = None
    """JSON schema that the answer must follow; None for text."""
    ignores_end: bool = False
    """Whether the answer must be as long as allowed."""


def read_ask(body: Any, options: TimedOptions, *, is_chat: bool) -> Ask:
    """Read the body of a request.

    Raises:
        RefusalError: With the status, type and parameter that vLLM has for it.
    """
    check_body(body, options)
    prompts = [_chat_prompt(body)] if is_chat else _plain_prompts(body)
    max_tokens = _max_tokens(body, options, max(prompt.tokens for prompt in prompts), is_chat)
    n = _integer(body, "n", 1)
    if n < 1:
        raise RefusalError(400, f"n must be at least 1, got {n}.")
    temperature = float(_number(body, "temperature", 1.0))
    if temperature < 0:
        raise refused("temperature", f"temperature must be non-negative, got {temperature}.")
    if n > 1 and temperature == 0:
        raise RefusalError(400, f"n must be 1 when using greedy sampling, got {n}.")
    stop = body.get("stop") or ()
    return Ask(
        is_chat=is_chat,
        model=options.model,
        prompts=prompts,
        max_tokens=max_tokens,
        n=n,
        temperature=temperature,
        seed=body.get("seed"),
        stop=[stop] if isinstance(stop, str) else list(stop),
        is_streamed=bool(body.get("stream")),
        with_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        num_logprobs=_num_logprobs(body, is_chat),
        schema=_schema(body),
        ignores_end=bool(body.get("ignore_eos")),
    )


def read_text(body: Any, options: TimedOptions) -> str:
    """Return the prompt of a request as one text; of several, the first.

    Raises:
        RefusalError: There is none.
    """
    check_body(body, options)
    return (_chat_prompt(body) if "messages" in body else _plain_prompts(body)[0]).text


def check_body(body: Any, options: TimedOptions) -> None:
    """Refuse what is no object, or asks for another model.

    Raises:
        RefusalError: It is one of the two.
    """
    if not isinstance(body, Mapping):
        raise RefusalError(
            400,
            "1 validation error:\n  {'type': 'model_attributes_type', 'loc': 'body', 'msg': "
            "'Input should be a valid dictionary or object to extract fields from'}",
            "Bad Request",
            "body",
        )
    model = body.get("model")
    if model not in (None, options.model):
        raise RefusalError(
            404,
            f"The model `{model}` does not exist. Valid aliases: {options.model}.",
            "NotFoundError",
            "model",
        )


def check_length(tokens: int, options: TimedOptions) -> None:
    """Refuse a prompt that leaves no room for an answer.

    Raises:
        RefusalError: It is too long.
    """
    if tokens >= options.max_model_len:
        raise refused(
            "input_tokens",
            f"This model's maximum context length is {options.max_model_len} tokens. However, "
            f"your prompt contains at least {tokens} input tokens, which exceeds this limit even "
            "without any output tokens. Please reduce the length of the input prompt.",
            tokens,
        )


def _chat_prompt(body: Mapping[str, Any]) -> Prompt:
    if "messages" not in body:
        raise invalid("body.messages", "missing", "Field required")
    messages = body["messages"]
    if not isinstance(messages, list) or not all(isinstance(each, Mapping) for each in messages):
        raise invalid("body.messages", "list_type", "Input should be a valid list")
    if not messages:
        raise RefusalError(
            400,
            "Cannot apply chat template to an empty conversation. Provide at least one message.",
        )
    turns = [f"<{each.get('role')}>\n{_content(each)}\n" for each in messages]
    text = "".join([*turns, "<assistant>\n"])
    return Prompt(text, num_tokens(text), last=_content(messages[-1]))


def _content(message: Mapping[str, Any]) -> str:
    """Return a message's text, also where it comes in parts."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))


def _plain_prompts(body: Mapping[str, Any]) -> list[Prompt]:
    """Return the prompts of a completion: a text, tokens, or a list of either."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str | list) or not prompt:
        raise refused("prompt", "Either prompt or prompt_embeds must be provided and non-empty.")
    prompts = [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt
    return [_plain_prompt(each) for each in prompts]


def _plain_prompt(prompt: Any) -> Prompt:
    if isinstance(prompt, str):
        return Prompt(prompt, num_tokens(prompt), last=prompt)
    # Four characters for each number, so that blocks are those of the same tokens.
    text = "".join(f"{int(token) & 0xFFFF:04x}" for token in prompt)
    return Prompt(text, len(prompt), last=text)


def _max_tokens(
    body: Mapping[str, Any], options: TimedOptions, prompt_tokens: int, is_chat: bool
) -> int:
    """Return how long an answer may get: what was asked for, as far as the context goes."""
    name = "max_completion_tokens" if body.get("max_completion_tokens") else "max_tokens"
    wanted = _integer(body, name, None)
    if wanted is not None and wanted < 1:
        raise refused(name, f"{name} must be at least 1, got {wanted}.", wanted)
    if wanted is not None and wanted > options.max_model_len:
        raise refused(
            name,
            f"{name}={wanted} cannot be greater than max_model_len={options.max_model_len}. "
            "Please request fewer output tokens.",
            wanted,
        )
    check_length(prompt_tokens, options)
    default = options.answer_tokens or _DEFAULT_TOKENS["chat" if is_chat else "completions"]
    return min(wanted or default, options.max_model_len - prompt_tokens)


def _num_logprobs(body: Mapping[str, Any], is_chat: bool) -> int | None:
    if not is_chat:
        wanted: int | None = _integer(body, "logprobs", None)
        return wanted
    if body.get("logprobs"):
        return int(body.get("top_logprobs") or 0)
    if body.get("top_logprobs"):
        raise refused("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.")
    return None


def _schema(body: Mapping[str, Any]) -> Any:
    """Return the schema that an answer must follow, however it was asked for."""
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_object":
        return {"type": "object"}
    if wanted.get("type") == "json_schema":
        if not isinstance(wanted.get("json_schema"), Mapping):
            raise refused(
                "response_format",
                "When response_format type is 'json_schema', the 'json_schema' field must be "
                "provided.",
            )
        return wanted["json_schema"].get("schema")
    return (body.get("structured_outputs") or {}).get("json")


def _integer(body: Mapping[str, Any], name: str, default: Any) -> Any:
    value = _number(body, name, default)
    if value is not None and value != int(value):
        raise invalid(f"body.{name}", "int_from_float", "Input should be a valid integer")
    return None if value is None else int(value)


def _number(body: Mapping[str, Any], name: str, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(f"body.{name}", "int_parsing", "Input should be a valid integer")
    return value
