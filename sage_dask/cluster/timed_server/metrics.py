"""The counters of a timed server, told under vLLM's names in the Prometheus text format.

Names, labels and bounds of the histograms are those of vLLM 0.32.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from sage_dask.cluster.timed_server.work import EngineStatistics, Finished

_LATENCY_BOUNDS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_FIRST_TOKEN_BOUNDS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5),
    *(10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_REASONS = ("stop", "length", "abort", "error", "repetition")
_MOST_FRESH = 1024


class Histogram:
    """Counts of values up to each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """Return the samples as Prometheus wants them: each bound counts all below it."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {float(total)}'
        yield f"{name}_count{{{labels}}} {float(total)}"
        yield f"{name}_sum{{{labels}}} {self._sum}"


class ServerMetrics:
    """What a server counts beside its engine.

    Args:
        model: Name that the samples carry.
    """

    def __init__(self, model: str) -> None:
        self._labels = f'engine="0",model_name="{model}"'
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.rejections = 0
        self.endings = dict.fromkeys(_REASONS, 0)
        self._fresh: list[Finished] = []
        """Not in the histograms yet: sorting in many at once costs a third of one by one."""
        self._histograms = {
            "time_to_first_token_seconds": Histogram(_FIRST_TOKEN_BOUNDS),
            "e2e_request_latency_seconds": Histogram(_LATENCY_BOUNDS),
            "request_queue_time_seconds": Histogram(_LATENCY_BOUNDS),
            "request_inference_time_seconds": Histogram(_LATENCY_BOUNDS),
            "request_prefill_time_seconds": Histogram(_LATENCY_BOUNDS),
            "request_decode_time_seconds": Histogram(_LATENCY_BOUNDS),
        }

    def finished(self, done: Finished, *, tokens: tuple[int, int], reason: str) -> None:
        """Count a sequence.

        Args:
            done: When it did what.
            tokens: Of its prompt and of its answer.
            reason: Why it ended, such as ``"stop"`` or ``"length"``.
        """
        self.prompt_tokens += tokens[0]
        self.generation_tokens += tokens[1]
        self.endings[reason] += 1
        self._fresh.append(done)
        if len(self._fresh) >= _MOST_FRESH:
            self._sort_in()

    def render(self, engine: EngineStatistics) -> str:
        """Return all samples as a page of text."""
        self._sort_in()
        return "\n".join([*self._lines(engine), ""])

    def _sort_in(self) -> None:
        for done in self._fresh:
            for histogram, value in zip(self._histograms.values(), _seconds(done), strict=True):
                histogram.observe(value)
        self._fresh.clear()

    def _lines(self, engine: EngineStatistics) -> Iterator[str]:
        yield from self._sample("num_requests_running", "gauge", engine.running)
        yield from self._sample("num_requests_waiting", "gauge", engine.waiting)
        yield from self._sample("kv_cache_usage_perc", "gauge", engine.kv_usage)
        counters = {
            "num_preemptions_total": engine.preemptions,
            "prefix_cache_queries_total": engine.prefix_queries,
            "prefix_cache_hits_total": engine.prefix_hits,
            "prompt_tokens_total": self.prompt_tokens,
            "generation_tokens_total": self.generation_tokens,
        }
        for name, value in counters.items():
            yield from self._sample(name, "counter", value)
        yield "# TYPE vllm:request_success_total counter"
        for reason, count in self.endings.items():
            labels = f'{self._labels},finished_reason="{reason}"'
            yield f"vllm:request_success_total{{{labels}}} {float(count)}"
        yield "# TYPE vllm:admission_rejections_total counter"
        labels = f'{self._labels},reason="max_num_queued_reqs"'
        yield f"vllm:admission_rejections_total{{{labels}}} {float(self.rejections)}"
        for name, histogram in self._histograms.items():
            yield f"# TYPE vllm:{name} histogram"
            yield from histogram.lines(f"vllm:{name}", self._labels)

    def _sample(self, name: str, kind: str, value: float) -> Iterator[str]:
        yield f"# TYPE vllm:{name} {kind}"
        yield f"vllm:{name}{{{self._labels}}} {float(value)}"


def _seconds(done: Finished) -> tuple[float, ...]:
    """Return what the histograms count of a sequence, in their order."""
    return (
        done.first_token_s - done.arrived_s,
        done.finished_s - done.arrived_s,
        done.started_s - done.arrived_s,
        done.finished_s - done.started_s,
        done.first_token_s - done.started_s,
        done.finished_s - done.first_token_s,
    )
