"""What a model server says of its own load, and how it says it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.gauges import Gauges, parse_gauges, parse_samples

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="Qwen/Qwen2.5-3B"} 3.0
vllm:num_requests_running{engine="1",model_name="Qwen/Qwen2.5-3B"} 4.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
vllm:num_requests_waiting{engine="0",model_name="Qwen/Qwen2.5-3B"} 0.0
vllm:num_requests_waiting{engine="1",model_name="Qwen/Qwen2.5-3B"} 2.0
vllm:num_requests_waiting_by_reason{engine="1",reason="capacity"} 7.0
vllm:kv_cache_usage_perc{engine="0",model_name="Qwen/Qwen2.5-3B"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="Qwen/Qwen2.5-3B"} 0.75
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 12.0
"""


def test_requests_are_added_over_engines_and_the_fullest_cache_counts():
    """Seven run, two wait, and one cache is three quarters full."""
    assert parse_gauges(VLLM) == Gauges(running=7.0, waiting=2.0, kv_usage=0.75)


def test_a_server_need_not_tell_of_its_cache():
    """Samples without labels are samples too."""
    text = "vllm:num_requests_running 3\nvllm:num_requests_waiting 1\n"

    assert parse_gauges(text) == Gauges(3.0, 1.0, None)


def test_the_cache_has_an_older_name():
    """Older servers are understood as well."""
    text = VLLM.replace("kv_cache_usage_perc", "gpu_cache_usage_perc")

    assert parse_gauges(text) == parse_gauges(VLLM)


@pytest.mark.parametrize("missing", ["running", "waiting"])
def test_half_an_answer_is_none(missing):
    """A server that does not tell both can not be followed."""
    assert parse_gauges(VLLM.replace(f"num_requests_{missing}{{", "other{")) is None


def test_what_is_no_metrics_page_tells_nothing():
    """An error page is not a server without load."""
    assert parse_gauges("<html>502 Bad Gateway</html>") is None
    assert parse_gauges("") is None


def test_labels_may_hold_anything():
    """Braces, quotes and line breaks in a label are part of it; a timestamp is no value."""
    text = 'a{x="}\\" 9 {",y="a\\nb"} 1.5 1700000000\na 2\n'

    assert parse_samples(text, ["a"]) == {"a": [1.5, 2.0]}


def test_values_that_are_no_finite_numbers_are_left_out():
    """A gauge that is NaN says nothing."""
    text = "a NaN\na +Inf\na junk\nb NaN\na 1e2\n"

    assert parse_samples(text, ["a", "b"]) == {"a": [100.0]}


@given(st.text(), st.integers(0, len(VLLM)))
def test_a_text_cut_anywhere_is_read_or_not_but_never_raises(junk, end):
    """What comes over a network may be anything."""
    parse_gauges(VLLM[:end] + junk)
    parse_gauges(junk)
