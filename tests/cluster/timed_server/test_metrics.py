"""The page of metrics, as Prometheus and the governor read it."""

from __future__ import annotations

import pytest

from sage_dask.cluster.timed_server.metrics import Histogram, ServerMetrics
from sage_dask.cluster.timed_server.work import EngineStatistics, Finished


def samples(page):
    """Return the values by the names and labels of their lines."""
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_histogram_counts_all_below_each_bound():
    """Buckets add up, and a value on a bound belongs to it."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)

    assert list(histogram.lines("h", 'a="b"')) == [
        'h_bucket{a="b",le="1.0"} 2.0',
        'h_bucket{a="b",le="2.0"} 3.0',
        'h_bucket{a="b",le="+Inf"} 4.0',
        'h_count{a="b"} 4.0',
        'h_sum{a="b"} 12.0',
    ]


@pytest.fixture
def page():
    """Lend the page after one request."""
    metrics = ServerMetrics("m")
    done = Finished("a", 10.0, 11.0, 13.0, 20.0, cached_tokens=0)
    metrics.finished(done, tokens=(7, 5), reason="length")
    engine = EngineStatistics(3, 4, 0.5, preemptions=1, prefix_queries=32, prefix_hits=16)
    return samples(metrics.render(engine))


def test_the_engine_is_shown_as_it_is(page):
    """Gauges and counters carry model and engine."""
    labels = '{engine="0",model_name="m"}'

    assert page[f"vllm:num_requests_running{labels}"] == 3
    assert page[f"vllm:num_requests_waiting{labels}"] == 4
    assert page[f"vllm:kv_cache_usage_perc{labels}"] == 0.5
    assert page[f"vllm:num_preemptions_total{labels}"] == 1
    assert page[f"vllm:prefix_cache_queries_total{labels}"] == 32
    assert page[f"vllm:prefix_cache_hits_total{labels}"] == 16
    assert page[f"vllm:prompt_tokens_total{labels}"] == 7
    assert page[f"vllm:generation_tokens_total{labels}"] == 5


def test_each_time_is_in_its_histogram(page):
    """Queue, prefill, decode and the whole are what their names say."""
    sums = {name.split(":")[1].split("{")[0]: value for name, value in page.items()}

    assert sums["request_queue_time_seconds_sum"] == 1
    assert sums["request_prefill_time_seconds_sum"] == 2
    assert sums["time_to_first_token_seconds_sum"] == 3
    assert sums["request_decode_time_seconds_sum"] == 7
    assert sums["request_inference_time_seconds_sum"] == 9
    assert sums["e2e_request_latency_seconds_sum"] == 10


def test_endings_are_counted_by_reason(page):
    """Reasons that did not occur are zero and not missing."""
    prefix = 'vllm:request_success_total{engine="0",model_name="m",finished_reason='

    assert page[f'{prefix}"length"}}'] == 1
    assert page[f'{prefix}"stop"}}'] == 0
    assert page[f'{prefix}"abort"}}'] == 0
