"""Requests are written once, as plain JSON."""

from __future__ import annotations

import json

import pytest

from sage_dask.completion import CompletionError
from sage_dask.endpoint.request import Request


def test_a_body_is_sent_as_it_is():
    """Nothing is added to a request that is not streamed."""
    request = Request.of("completions", {"model": "m", "n": 3, "prompt": "wörld"})

    assert json.loads(request.data) == {"model": "m", "n": 3, "prompt": "wörld"}
    assert request.num_choices == 3


@pytest.mark.parametrize("given", [{}, {"stream_options": {"x": 1}}])
def test_a_streamed_request_asks_for_its_usage_unless_told_otherwise(given):
    """Servers leave token counts out of streams by default."""
    sent = json.loads(Request.of("completions", given, stream=True).data)

    assert sent["stream"] is True
    assert sent["stream_options"] == given.get("stream_options", {"include_usage": True})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"bytes"])
def test_what_json_can_not_say_fails_the_record(value):
    """A value that no server could read is an error of the record, with nothing sent."""
    with pytest.raises(CompletionError, match="can not be written as JSON") as caught:
        Request.of("completions", {"x": value})

    assert caught.value.attempts == 0


def test_ids_are_random_unless_given_and_fit_in_a_header():
    """No two requests share an id by accident, and no id breaks the header."""
    assert Request.of("p", {}).id != Request.of("p", {}).id
    assert Request.of("p", {}, name="rag/0 7\r\nX: ä").id == "rag-0-7-X-"
    assert len(Request.of("p", {}, name="x" * 500).id) == 64
