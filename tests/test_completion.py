"""What a text model answers."""

from __future__ import annotations

import pickle

from sage_dask.completion import Completion, CompletionError


def test_meta_is_everything_but_the_text():
    """Meta is plain values, and names sources only where there are some."""
    completion = Completion("text", "m", "stop", {"prompt_tokens": 1}, 0.5)

    assert completion.meta() == {
        "model": "m",
        "usage": {"prompt_tokens": 1},
        "finish_reason": "stop",
        "latency_s": 0.5,
    }
    assert Completion("text", "m", sources=("a", "b")).meta()["sources"] == ["a", "b"]


def test_error_keeps_its_message_and_attempts_on_its_way():
    """An error that travels from a worker reads as it did there."""
    error = pickle.loads(pickle.dumps(CompletionError("busy; wait", attempts=3)))

    assert str(error) == "busy; wait"
    assert error.attempts == 3
