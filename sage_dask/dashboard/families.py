"""How metrics are made: one prefix, plain names for their kinds, one set of buckets."""

from __future__ import annotations

from typing import TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from sage_dask.sketch import Sketch

Family: TypeAlias = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily

PREFIX = "sage_dask_"

# From what a small batch takes to what one behind a long queue does; three bounds a decade put a
# percentile within a factor of 2.5.
BOUNDS_S = (
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0),
)
_LE = [str(bound) for bound in BOUNDS_S]


def counter(name: str, meaning: str, *labels: str) -> CounterMetricFamily:
    """Return an empty family of counters; the library puts ``_total`` behind their name."""
    return CounterMetricFamily(PREFIX + name, meaning, labels=labels)


def gauge(name: str, meaning: str, *labels: str) -> GaugeMetricFamily:
    """Return an empty family of gauges."""
    return GaugeMetricFamily(PREFIX + name, meaning, labels=labels)


def histogram(name: str, meaning: str, *labels: str) -> HistogramMetricFamily:
    """Return an empty family of histograms; ``add_sketch`` fills it."""
    return HistogramMetricFamily(PREFIX + name, meaning, labels=labels)


def add_sketch(
    family: HistogramMetricFamily, labels: list[str], sketch: Sketch, sum_s: float
) -> None:
    """Add a sketch as a histogram whose bounds are true to one per cent.

    Args:
        family: To which it is added.
        labels: Its labels' values.
        sketch: Counts by seconds.
        sum_s: The exact sum of what was counted.
    """
    reached = [*zip(_LE, sketch.at_most(BOUNDS_S), strict=True), ("+Inf", sketch.num_records)]
    family.add_metric(labels, reached, sum_s)
