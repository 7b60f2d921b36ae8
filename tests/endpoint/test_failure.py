"""What an answer with an error means for the record, the run and the next try."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.failure import Broken, Busy, Fatal, Refused, classify, error_in, words


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, Fatal),
        (307, Fatal),
        (400, Refused),
        (401, Fatal),
        (402, Fatal),
        (403, Fatal),
        (404, Fatal),
        (405, Fatal),
        (408, Broken),
        (409, Broken),
        (413, Refused),
        (418, Refused),
        (422, Refused),
        (425, Broken),
        (429, Busy),
        (500, Broken),
        (502, Broken),
        (503, Busy),
        (504, Broken),
        (524, Broken),
        (529, Busy),
    ],
)
def test_each_status_has_one_meaning(status, kind):
    """The table of statuses, for a server that has not answered before."""
    failure = classify(status, "so it goes")

    assert type(failure) is kind
    assert failure.said == f"{status} so it goes"


@pytest.mark.parametrize("status", [302, 404, 405])
def test_a_wrong_address_is_none_if_it_answered_before(status):
    """A proxy whose server restarts is tried again, unless it says that the model is gone."""
    assert isinstance(classify(status, "not found", answered_before=True), Broken)
    if status != 302:
        gone = classify(status, "The model 'm' does not exist.", answered_before=True)
        assert isinstance(gone, Fatal)


@pytest.mark.parametrize(
    ("status", "mend"),
    [(401, "api_key_env"), (403, "access"), (404, "/models"), (405, "/v1"), (308, "endpoint=")],
)
def test_what_ends_the_run_says_how_to_mend_it(status, mend):
    """The mend names the parameter or the page to look at."""
    assert mend in classify(status, "").mend


def test_busy_carries_the_wish_of_the_server():
    """What Retry-After asked for goes along."""
    assert classify(503, "", retry_after_s=7.0) == Busy("503", 7.0)
    assert classify(429, "slow down") == Busy("429 slow down", None)


def test_an_empty_account_is_not_merely_busy():
    """A 429 that speaks of the account's quota passes by no waiting."""
    failure = classify(429, "You exceeded your current quota (insufficient_quota)")

    assert isinstance(failure, Fatal)


@pytest.mark.parametrize("status", [400, 422, 500, 501])
@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens.",
        "the request exceeds the available context size (exceed_context_size_error)",
        "prompt is too long: 9000 tokens > 8192 maximum",
        "error (context_length_exceeded)",
    ],
)
def test_a_prompt_that_is_too_long_is_refused_under_any_status(status, said):
    """Asking again would not make it shorter, even if the server calls it its own error."""
    assert isinstance(classify(status, said), Refused)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"error": {"message": "too long", "type": "x", "param": null, "code": 400}}', "too long"),
        ('{"error": {"message": "no", "code": "insufficient_quota"}}', "no (insufficient_quota)"),
        ('{"error": "plain"}', "plain"),
        ('{"object": "error", "message": "old vLLM", "code": 404}', "old vLLM"),
        ('{"detail": "Not Found"}', "Not Found"),
        ('{"detail": [{"loc": ["body"]}]}', '{"detail": [{"loc": ["body"]}]}'),
        ("[1]", "[1]"),
        ("<h1>502</h1>\r\n  nginx", "<h1>502</h1> nginx"),
        ("", ""),
    ],
)
def test_the_servers_own_words_are_found(content, said):
    """Each known shape of an error gives its text, any other is taken as it is."""
    assert words(content) == said


def test_words_are_bounded_after_the_key_is_taken_out():
    """A key across the border leaves no half of itself."""
    content = "x" * 295 + "canary-secret" + "y" * 1000

    said = words(content, lambda text: text.replace("canary-secret", "[key]"))

    assert said == "x" * 295 + "[key]"


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda s: (
            st.lists(s) | st.dictionaries(st.sampled_from(["error", "message", "code", "x"]), s)
        ),
    )
)
def test_no_body_whatever_raises(body):
    """An error's body is the server's doing and must not fail the classification."""
    assert len(words(json.dumps(body))) <= 300
    error_in(body)


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        ({"error": {"message": "overloaded", "code": 503}}, Busy("503 overloaded")),
        ({"error": {"message": "too long", "code": 400}}, Refused("400 too long")),
        ({"error": {"message": "boom", "code": "E1"}}, Broken("500 boom (E1)")),
        ({"error": "boom"}, Broken("500 boom")),
        ({"object": "error", "message": "dead", "code": 500}, Broken("500 dead")),
        ({"error": None, "choices": []}, None),
        ({"choices": []}, None),
        (["error"], None),
        (None, None),
    ],
)
def test_an_error_inside_a_good_status_is_found(body, failure):
    """A proxy's error with status 200, and one in the middle of a stream, are errors."""
    assert error_in(body) == failure
