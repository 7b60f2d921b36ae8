"""What a model server says of its own load, and how it says it.

vLLM publishes its metrics as Prometheus text, one line per engine and metric;
a server is the sum of its engines, and its KV cache as full as the fullest.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
# The second is its name in older versions.
_KV_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")

# A name, labels whose quoted values may hold braces, a value; a timestamp may follow.
_SAMPLE = re.compile(
    r"""^(?P<name>[A-Za-z_:][\w:]*)
        (?:[ \t]*\{(?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*\})?
        [ \t]+(?P<value>[^\s]+)""",
    re.MULTILINE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Gauges:
    """The load of one server at one moment, over all its engines."""

    running: float
    """Requests in the batch."""
    waiting: float
    """Requests in the server's own queue."""
    kv_usage: float | None = None
    """Share of the KV cache in use, 0 to 1; None where the server does not say."""


def parse_gauges(text: str) -> Gauges | None:
    """Return the load that vLLM's metrics tell.

    Args:
        text: The answer of ``/metrics``, in Prometheus' text format.

    Returns:
        Requests added up over engines and the fullest KV cache; None where the text does not
        tell how many requests run and how many wait.
    """
    samples = parse_samples(text, (_RUNNING, _WAITING, *_KV_USAGE))
    if _RUNNING not in samples or _WAITING not in samples:
        return None
    usages = [usage for name in _KV_USAGE for usage in samples.get(name, ())]
    return Gauges(sum(samples[_RUNNING]), sum(samples[_WAITING]), max(usages, default=None))


def parse_samples(text: str, names: Collection[str]) -> Mapping[str, list[float]]:
    """Return the values of some metrics, in the order of the text, whatever their labels.

    Lines that are no samples, and values that are not finite numbers, are left out; a metric
    without any value is not named.
    """
    samples: dict[str, list[float]] = {}
    for match in _SAMPLE.finditer(text):
        if match["name"] in names and (value := _number(match["value"])) is not None:
            samples.setdefault(match["name"], []).append(value)
    return samples


def _number(text: str) -> float | None:
    """Return a finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
