"""The files of OpenAI's batch interface: requests as JSON lines in, results as JSON lines out.

Requests:  ``{"custom_id", "method", "url", "body": {"model", "messages", ...}}``
Results:   ``{"id", "custom_id", "response": {"status_code", "request_id", "body"}, "error"}``

Source of the forms: the platform's "Batch API" guide, as vLLM's ``run-batch`` writes them too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sage_dask.operators.files.jsonlines import json_object
from sage_dask.operators.files.jsontext import json_line
from sage_dask.operators.files.rows import BadRowError, decode, row_id
from sage_dask.operators.files.sink import RowSink, opened
from sage_dask.operators.files.source import LineSource
from sage_dask.record import Failure, Position, Record, SourceItem
from sage_dask.stage import FieldSet


@dataclass
class ReadOpenAIBatch(LineSource):
    """Read chat requests; ``custom_id`` is the id.

    A record has ``messages``, the other keys of the body as ``parameters``
    (``model``, ``max_tokens``, ...), and ``url`` where the request names one.

    Args:
        path: The file; ``.gz`` and ``.zst`` are unpacked on the way.
        max_line_bytes: A longer line is a failed row.
    """

    def known_fields(self) -> FieldSet:
        """Return the fields of every request."""
        return FieldSet(frozenset({"messages", "parameters"}), is_open=True)

    def parse(self, line: bytes, position: Position) -> SourceItem:
        """Return the request that the line holds."""
        row = json_object(decode(line, self.max_line_bytes))
        identity = row_id(row, "custom_id")
        body = row.get("body")
        if not isinstance(body, dict):
            raise BadRowError(
                f"request {identity!r}: 'body' is {type(body).__name__}, and an object with "
                "'messages' is wanted"
            )
        parameters = dict(body)
        messages = parameters.pop("messages", None)
        if not isinstance(messages, list) or not messages:
            raise BadRowError(
                f"request {identity!r} (url {row.get('url')!r}): 'body' has no list 'messages'; "
                "only chat completions can be read"
            )
        record = {"messages": messages, "parameters": parameters}
        if "url" in row:
            record["url"] = row["url"]
        return SourceItem(identity, record, position)


@dataclass
class WriteOpenAIBatch(RowSink):
    """Write one result line per record, and one with an error per failure.

    Finish reason, usage and model go along as ``Generate`` left them in
    ``<answer>_meta``, or else from the record's ``finish_reason``, ``usage`` and
    ``parameters["model"]``.  Without a finish reason, ``"stop"`` is written.
    Failures also stand in the failed file, with the record as it was read.

    Args:
        path: The file; it appears when the run is done, and is ``<path>.partial`` until then.
        answer: The field that holds the answer's text.
    """

    answer: str = "answer"
    _created: int = field(init=False, repr=False, compare=False, default=0)

    @property
    def reads(self) -> Sequence[str]:
        """The answer."""
        return (self.answer,)

    def open(self) -> None:
        """Make the partial."""
        super().open()
        self._created = int(time.time())

    def encode(self, record_id: str, record: Record) -> bytes:
        """Return the result line of an answered request."""
        text = record.get(self.answer)
        if not isinstance(text, str):
            raise ValueError(
                f"field {self.answer!r} is {type(text).__name__}, and the answer's text is "
                "wanted; name its field with WriteOpenAIBatch(answer=...)"
            )
        response = {
            "status_code": 200,
            "request_id": f"req_{record_id}",
            "body": self._completion(record_id, record, text),
        }
        return json_line(_result(record_id, response=response, error=None))

    def write_failures(self, failures: Sequence[Failure]) -> None:
        """Write a line with an error for each failure, here and in the failed file."""
        super().write_failures(failures)
        opened(self._output, self).write([json_line(_error_result(item)) for item in failures])

    def _completion(self, record_id: str, record: Record, text: str) -> Record:
        """Return the body of a chat completion."""
        meta = _mapping(record, f"{self.answer}_meta")
        usage = meta.get("usage") or record.get("usage")
        body: Record = {
            "id": f"chatcmpl-{record_id}",
            "object": "chat.completion",
            "created": self._created,
            "model": meta.get("model") or _mapping(record, "parameters").get("model"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": meta.get("finish_reason")
                    or record.get("finish_reason")
                    or "stop",
                }
            ],
        }
        if usage:
            body["usage"] = usage
        return body


def _mapping(record: Record, name: str) -> Mapping[str, Any]:
    """Return what a field holds, or nothing where it is no mapping."""
    value = record.get(name)
    return value if isinstance(value, Mapping) else {}


def _error_result(failure: Failure) -> Record:
    error = {"code": failure.error, "message": f"{failure.stage}: {failure.message}"}
    return _result(failure.id, response=None, error=error)


def _result(record_id: str, *, response: Any, error: Any) -> Record:
    return {
        "id": f"batch_req_{record_id}",
        "custom_id": record_id,
        "response": response,
        "error": error,
    }
