"""A streamed answer put together into the shape of one that was not streamed.

Bytes in, one body out, without I/O.  A stream may end anywhere, so the body
says whether it is whole: ``[DONE]`` came, or every choice told why it ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

# Fields of a delta that name something; any other text continues the one before.
_NAMES = frozenset({"id", "type", "role", "object", "model"})


class Events:
    """The ``data`` of server-sent events, from bytes that are cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that ends in this chunk."""
        # A "\r" at the end waits for its "\n": a line is only taken once that has come.
        text = (self._rest + chunk).replace(b"\r\n", b"\n")
        *lines, self._rest = text.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()


class Assembly:
    """The body that a stream of completion chunks adds up to."""

    def __init__(self, num_choices: int = 1) -> None:
        self.error: Mapping[str, Any] | None = None
        """A chunk that holds an error instead of text."""
        self._num_choices = num_choices
        self._events = Events()
        self._done = False
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    @property
    def is_done(self) -> bool:
        """Whether nothing more will come."""
        return self._done or self.error is not None

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, even if the connection breaks now."""
        finished = [each for each in self._choices.values() if each["finish_reason"] is not None]
        return self._done or len(finished) >= self._num_choices

    def feed(self, chunk: bytes) -> None:
        """Take in some bytes.

        Raises:
            ValueError: They hold an event that is no JSON object.
        """
        for data in self._events.feed(chunk):
            if self.is_done:
                return
            if data.strip() == b"[DONE]":
                self._done = True
            else:
                self._add(json.loads(data))

    def body(self) -> dict[str, Any]:
        """Return the body so far, as if it had come at once."""
        head = dict(self._head)
        head["object"] = str(head.get("object", "")).removesuffix(".chunk")
        return {**head, "choices": [self._choices[index] for index in sorted(self._choices)]}

    def _add(self, event: Any) -> None:
        if not isinstance(event, dict):
            raise ValueError("an event of the stream is no JSON object")
        if event.get("error") or event.get("object") == "error":
            self.error = event
            return
        self._head.update((k, v) for k, v in event.items() if k != "choices" and v is not None)
        for choice in event.get("choices") or ():
            index = choice.get("index", 0)
            self._continue(self._choices.setdefault(index, _choice(index)), choice)

    def _continue(self, whole: dict[str, Any], part: Mapping[str, Any]) -> None:
        """Add a chunk's part to a choice; what streams call ``delta`` is ``message`` in a body."""
        for key, value in part.items():
            if key == "delta":
                _merge(whole.setdefault("message", {}), value or {})
            elif key == "text":
                whole["text"] = whole.get("text", "") + (value or "")
            elif key == "logprobs" and value:
                whole["logprobs"] = whole["logprobs"] or {}
                _merge(whole["logprobs"], value)
            elif value is not None:
                whole[key] = value


def _choice(index: int) -> dict[str, Any]:
    return {"index": index, "finish_reason": None, "logprobs": None}


def _merge(whole: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Continue texts and lists in place; of numbers and names the last one counts."""
    for key, value in part.items():
        before = whole.get(key)
        if value is None or before is None:
            whole[key] = _started(value) if before is None else before
        elif isinstance(before, str) and isinstance(value, str) and key not in _NAMES:
            whole[key] = before + value
        elif isinstance(before, dict) and isinstance(value, Mapping):
            _merge(before, value)
        elif isinstance(before, list) and isinstance(value, list):
            _merge_lists(before, value)
        else:
            whole[key] = value


def _started(value: Any) -> Any:
    """Return a value to continue from; a list of numbered parts begins with its own."""
    if not isinstance(value, list):
        return value
    whole: list[Any] = []
    _merge_lists(whole, value)
    return whole


def _merge_lists(whole: list[Any], part: list[Any]) -> None:
    """Append, except that parts with an ``index`` (tool calls) continue the one they name."""
    numbered = {each["index"]: each for each in whole if isinstance(each, dict) and "index" in each}
    for each in part:
        if isinstance(each, dict) and each.get("index") in numbered:
            _merge(numbered[each["index"]], each)
        else:
            whole.append(each)
            if isinstance(each, dict) and "index" in each:
                numbered[each["index"]] = each
