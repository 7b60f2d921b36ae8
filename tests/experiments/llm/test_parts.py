"""Each part runs at a small size and yields its rows; how good figures are is not for a test."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from sage_dask.errors import MissingDependencyError
from sage_dask.experiments.llm import gates, prefix, real, throughput
from sage_dask.experiments.llm.alone import Alone
from sage_dask.experiments.llm.bench import Bench, Scale
from sage_dask.experiments.llm.costs import spent_s
from sage_dask.experiments.llm.gates import Found
from sage_dask.experiments.llm.load import Load
from sage_dask.experiments.llm.prefix import Cached

pytestmark = pytest.mark.slow

TINY = Scale(requests=20, rounds=1, seconds=3.0, records=20)


@pytest.fixture
def bench():
    """Lend a benchmark of next to nothing, which must come to an end without a problem."""
    bench = Bench(TINY)
    yield bench
    assert bench.problems == []


@pytest.mark.cluster
def test_throughput_has_rows_against_the_ideal_plain_and_for_cpu(bench, monkeypatch):
    """Four ways beside the plain one, three rows each."""
    monkeypatch.setattr(throughput, "LATENCY_S", 0.05)
    monkeypatch.setattr(throughput, "JITTER_S", 0.01)
    monkeypatch.setattr(throughput, "NUM_NODES", 1)

    rows = list(throughput.throughput(bench))

    assert len(rows) == 1 + 3 * 4
    assert all(row.ratio > 0 for row in rows)
    assert all("timed server" in row.what for row in rows[:1])


@pytest.mark.cluster
def test_a_gate_is_watched(bench, monkeypatch):
    """The limit and the server's queue, over the last third of the time."""
    case = replace(gates.CASES[0], options=replace(gates.CASES[0].options, latency_s=0.05))
    monkeypatch.setattr(gates, "CASES", (case,))
    monkeypatch.setattr(gates, "NUM_NODES", 1)

    (row,) = gates.gates(bench)

    assert row.what.startswith("timed server, 4 seats")
    assert row.ratio > 0
    assert "waiting" in row.measured


def test_a_limit_is_the_median_of_the_looks():
    """Queue and seats are averages over time, and not over looks."""
    looks = [
        (0.0, {"limit": 1, "waiting_s": 0.0, "running_s": 0.0}),
        (10.0, {"limit": 4, "waiting_s": 5.0, "running_s": 40.0}),
        (11.0, {"limit": 9, "waiting_s": 5.0, "running_s": 44.0}),
        (20.0, {"limit": 5, "waiting_s": 30.0, "running_s": 60.0}),
    ]

    assert Found.of(looks, 10.0, 20.0, seats=4) == Found(5, 2.5, 0.5)


@pytest.mark.cluster
def test_affinity_finds_more_in_the_caches(bench, monkeypatch):
    """Caches that hold half of the prefixes hold those that come to them."""
    monkeypatch.setattr(prefix, "TENANTS", 6)
    monkeypatch.setattr(prefix, "_OPTIONS", replace(prefix._OPTIONS, prefix_blocks=400, seats=4))

    (row,) = prefix.prefix(bench)

    assert row.ratio > 1


def test_a_hit_rate_is_of_what_was_added():
    """Servers may have been asked before."""
    found = Cached(300, 150).since(Cached(100, 100))

    assert found.rate == 0.25
    assert Cached(0, 0).rate == 0.0


def test_without_a_vllm_nothing_is_measured(bench, monkeypatch):
    """The row says that it was not run, and why."""

    def find_python():
        raise MissingDependencyError("no vLLM here")

    monkeypatch.setattr(real, "find_python", find_python)

    (row,) = real.real(bench)

    assert (row.measured, row.baseline) == ("not run", "no vLLM here")
    assert math.isnan(row.ratio)


@pytest.mark.cluster
def test_a_run_in_another_process_that_fails_is_told():
    """Its exit code ends the benchmark; nothing is left running."""
    with pytest.raises(RuntimeError, match="exit code 1"):
        Alone(Load(endpoints=["ftp://nowhere"], requests=1)).result()


def test_own_work_is_counted_and_a_process_can_be_left_out():
    """Without this process nothing is left of it."""
    import os

    before_s = spent_s()
    sum(range(3_000_000))

    assert spent_s() > before_s
    assert spent_s([os.getpid()]) == 0
