"""Sampling parameters as fields of a request."""

from __future__ import annotations

import pytest

from sage_dask.errors import PlanError
from sage_dask.operators.generation.sampling import Sampling


def test_what_is_left_to_the_server_is_not_sent():
    """None means no field, and one answer is what servers give anyway."""
    assert Sampling(max_tokens=None, temperature=None).sampling("chat") == {}
    assert Sampling().sampling("chat") == {"max_tokens": 256, "temperature": 0.7}


def test_zero_is_a_value():
    """Temperature 0 is sent; it is not the same as leaving it out."""
    assert Sampling(temperature=0).sampling("chat")["temperature"] == 0


def test_all_parameters_are_sent_under_their_names():
    """The names are those of the protocol; tuples become lists."""
    sampling = Sampling(max_tokens=1, temperature=1.5, top_p=0.9, stop=("a", "b"), n=2, seed=3)

    assert sampling.sampling("chat") == {
        "max_tokens": 1, "temperature": 1.5, "top_p": 0.9, "stop": ["a", "b"], "n": 2
    }  # fmt: skip


@pytest.mark.parametrize(
    ("logprobs", "api", "fields"),
    [
        (False, "chat", {}),
        (0, "completions", {}),
        (True, "chat", {"logprobs": True}),
        (3, "chat", {"logprobs": True, "top_logprobs": 3}),
        (True, "completions", {"logprobs": 1}),
        (3, "completions", {"logprobs": 3}),
    ],
)
def test_the_two_apis_ask_for_log_probabilities_differently(logprobs, api, fields):
    """Chat has a switch and a number, plain completions a number alone."""
    sent = Sampling(max_tokens=None, temperature=None, logprobs=logprobs).sampling(api)

    assert sent == fields


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"n": 0},
        {"temperature": -0.1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"seed": "random"},
        {"logprobs": -1},
    ],
)
def test_what_no_server_accepts_is_refused(options):
    """The message names parameter and value."""
    ((name, value),) = options.items()

    with pytest.raises(PlanError, match=f"{name}={value!r}"):
        Sampling(**options).check_sampling()
