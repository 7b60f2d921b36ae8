"""What a scrape of the scheduler says, and that Prometheus takes it."""

from __future__ import annotations

import gc
import itertools
import math
import shutil
import subprocess
from dataclasses import replace
from urllib.request import urlopen

import pytest
from distributed import LocalCluster
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sage_dask.dashboard.board import JobView
from sage_dask.dashboard.prometheus import register
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.metrics import LatencySummary
from tests.dashboard.full_snapshot import (
    STAGES,
    FakeMonitor,
    full_snapshot,
    progress,
)

NOTHING = Snapshot(0.0, [], None, [], [], may_control=False)


@pytest.fixture
def registry():
    """Lend a registry like the one that Dask serves, without what is in that."""
    return CollectorRegistry(auto_describe=True)


def scrape(registry):
    """Return what is served, as text."""
    return generate_latest(registry).decode()


def families(text):
    """Return the families of a scrape by name, as Prometheus' own text format has them."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(text, name, *labels):
    """Return the samples of a name by the given labels' values."""
    samples = [s for f in families(text).values() for s in f.samples if s.name == name]
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in samples}


def showing(*jobs, **changes):
    """Return a snapshot of jobs, each given by name and progress."""
    views = [JobView(name, "running", news, 1.0, None, 0.0, ()) for name, news in jobs]
    return replace(NOTHING, jobs=views, **changes)


def test_every_family_has_a_name_by_the_conventions_and_says_what_it_means(registry):
    """Our prefix, base units, a sentence of help; counters end in ``_total``."""
    register(monitor := FakeMonitor(full_snapshot()), registry)

    found = families(scrape(registry))

    assert monitor.num_taken == 1
    assert len(found) > 25
    for name, family in found.items():
        assert name.startswith("sage_dask_"), name
        assert family.documentation.endswith("."), name
        assert family.type in ("counter", "gauge", "histogram"), name
        assert family.samples, f"the full snapshot has nothing for {name}"
        assert not any(unit in name.split("_") for unit in ("ms", "milliseconds", "percent"))
    totals = {name for name, family in found.items() if family.type == "counter"}
    assert {s.name for name in totals for s in found[name].samples} == {
        f"{n}_total" for n in totals
    }


def test_every_series_is_there_once(registry):
    """No two samples of a scrape have the same name and labels."""
    register(monitor := FakeMonitor(full_snapshot()), registry)

    lines = [line.rpartition(" ")[0] for line in scrape(registry).splitlines() if line[0] != "#"]

    assert monitor.num_taken == 1
    assert len(lines) == len(set(lines)) > 300


def test_promtool_has_nothing_to_say(registry):
    """Prometheus' own linter accepts a scrape of everything without a word."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed; Debian has it in the package 'prometheus'")
    register(monitor := FakeMonitor(full_snapshot()), registry)
    asked = {"input": scrape(registry), "capture_output": True, "text": True, "timeout": 60}

    done = subprocess.run([promtool, "check", "metrics"], check=False, **asked)

    assert monitor.num_taken == 1
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_histograms_are_whole(registry):
    """Buckets never fall, the last is the count, and the sum is the exact one."""
    register(monitor := FakeMonitor(full_snapshot()), registry)

    found = [f for f in families(scrape(registry)).values() if f.type == "histogram"]

    assert len(found) == 2
    for family in found:
        by_series = {}
        for sample in family.samples:
            labels = {k: v for k, v in sample.labels.items() if k != "le"}
            series = by_series.setdefault(tuple(labels.values()), {"buckets": []})
            if sample.name.endswith("_bucket"):
                series["buckets"].append((float(sample.labels["le"]), sample.value))
            else:
                series[sample.name.rpartition("_")[2]] = sample.value
        assert len(by_series) in (len(monitor.now.jobs), len(STAGES) * len(monitor.now.jobs))
        for series in by_series.values():
            bounds, counts = zip(*series["buckets"], strict=True)
            assert list(bounds) == sorted(set(bounds))
            assert list(counts) == sorted(counts)
            assert bounds[-1] == math.inf
            assert counts[-1] == series["count"] > 0


def test_latency_and_stages_are_those_of_the_report(registry):
    """Sums are exact, counts are records for the latency and batches for stages."""
    news = progress("rag/1", 40)
    register(monitor := FakeMonitor(showing(("rag/1", news))), registry)

    text = scrape(registry)

    report, job = monitor.now.jobs[0].progress.report, ("rag", "1")
    latency, stage = "sage_dask_record_latency_seconds", "sage_dask_stage_batch_seconds"
    assert values(text, f"{latency}_count", "pipeline", "job_id") == {job: report.num_written}
    mean_s = values(text, f"{latency}_sum", "pipeline", "job_id")[job] / report.num_written
    assert mean_s == pytest.approx(report.latency.mean_s)
    assert values(text, f"{stage}_count", "stage") == {(name,): 40 for name in STAGES}
    assert values(text, f"{stage}_sum", "stage") == {
        (name,): pytest.approx(cost.seconds) for name, cost in report.stages.items()
    }
    within = values(text, f"{latency}_bucket", "le")
    assert within["1000.0",] == within["+Inf",] == report.num_written
    assert 0 < within["2.5",] < report.num_written


def test_the_parts_of_the_latency_add_up_to_it_but_for_the_residue(registry):
    """What is stacked is the mean latency, and what it lacks is what nobody accounts for."""
    news = progress("rag/1", 40)
    register(monitor := FakeMonitor(showing(("rag/1", news))), registry)

    text = scrape(registry)

    breakdown = monitor.now.jobs[0].progress.report.breakdown
    parts = values(text, "sage_dask_latency_seconds_total", "part", "stage")
    (sum_s,) = values(text, "sage_dask_record_latency_seconds_sum").values()
    assert sum_s - sum(parts.values()) == pytest.approx(breakdown.residue_s * news.num_written)
    assert breakdown.residue_s > 0.01
    assert {part for part, stage in parts if stage == "generate"} >= {"server queue", "network"}
    assert ("stage", "embed") in parts
    assert ("stage", "generate") not in parts, "its parts are there, and it would count twice"


def test_tokens_are_counted_under_one_kind_each(registry):
    """Kinds add up to all tokens; stages that ask nobody have none."""
    news = progress("rag/1", 10)
    register(monitor := FakeMonitor(showing(("rag/1", news))), registry)

    tokens = values(scrape(registry), "sage_dask_tokens_total", "stage", "kind")

    assert monitor.num_taken == 1
    assert tokens == {
        ("generate", "prompt"): 6000,
        ("generate", "prompt_cached"): 4000,
        ("generate", "completion"): 3000,
    }


def test_a_job_shows_its_state_and_how_much_there_is(registry):
    """An ended one has its outcome and no time to go."""
    register(monitor := FakeMonitor(full_snapshot()), registry)

    text = scrape(registry)

    assert monitor.num_taken == 1
    assert values(text, "sage_dask_job_state", "job_id", "state") == {
        ("0000", "done"): 1,
        ("0001", "paused"): 1,
        ("0002", "running"): 1,
    }
    assert set(values(text, "sage_dask_job_eta_seconds", "job_id")) == {("0002",)}
    assert set(values(text, "sage_dask_job_expected_records").values()) == {100_000}


def test_words_of_users_come_back_as_they_were(registry):
    """Quotes, backslashes, line ends and other scripts are escaped, in every kind of label."""
    odd = 'say "hi"\\n\nnaïve, 世界'
    full = full_snapshot()
    statistics = replace(full.scheduling, gates={odd: full.scheduling.gates["llm"]})
    report = replace(progress().report, stages={odd: progress().report.stages["embed"]})
    jobs = [(f"{odd}/1", replace(progress(), pipeline=odd, report=report))]
    register(monitor := FakeMonitor(showing(*jobs, scheduling=statistics)), registry)

    text = scrape(registry)

    assert monitor.num_taken == 1
    assert values(text, "sage_dask_gate_held_slots", "gate") == {(odd,): 20}
    stages = values(text, "sage_dask_stage_records_in_total", "pipeline", "job_id", "stage")
    assert set(stages) == {(odd, "1", odd)}


def test_series_go_with_their_job(registry):
    """What the board forgot is not served any more."""
    both = showing(("rag/1", progress("rag/1")), ("rag/2", progress("rag/2")))
    register(monitor := FakeMonitor(both), registry)
    scrape(registry)

    monitor.now = replace(both, jobs=both.jobs[1:])

    assert 'job_id="1"' not in scrape(registry)
    assert 'job_id="2"' in scrape(registry)


def test_counters_stand_still_where_records_are_taken_back(registry):
    """A count that fell is held until it is passed; else Prometheus would count all of it again."""
    news = [progress("rag/1", 10), progress("rag/1", 10, num_taken_back=9), progress("rag/1", 12)]
    register(monitor := FakeMonitor(NOTHING), registry)
    failed = []
    for each in news:
        monitor.now = showing(("rag/1", each))
        records = values(scrape(registry), "sage_dask_records_total", "outcome")
        failed.append((records["read",], records["failed",]))

    assert news[1].num_read < news[0].num_read
    assert failed == [(100, 10), (100, 10), (120, 12)]


def test_no_counter_and_no_bucket_goes_back(registry):
    """From one moment to a later one of the same jobs, each series grows or stays."""
    register(monitor := FakeMonitor(full_snapshot(30)), registry)
    growing = ("_total", "_count", "_sum", "_bucket")
    moments = []
    for moment in (full_snapshot(30), full_snapshot(60), full_snapshot(61)):
        monitor.now = moment
        samples = [s for f in families(scrape(registry)).values() for s in f.samples]
        moments.append(
            {(s.name, *s.labels.values()): s.value for s in samples if s.name.endswith(growing)}
        )

    assert any(name == "sage_dask_latency_seconds_total" for name, *_ in moments[0])
    for before, after in itertools.pairwise(moments):
        assert {key: value for key, value in before.items() if after[key] < value} == {}
    assert moments[0] != moments[1]


def test_a_part_that_is_less_than_nothing_counts_as_nothing(registry):
    """The difference of two measurements may fall below zero; a counter must not."""
    news = progress("rag/1", 10)
    breakdown = news.report.breakdown
    less = tuple(replace(part, seconds=-1.0, parts=()) for part in breakdown.parts)
    report = replace(news.report, breakdown=replace(breakdown, parts=less))
    register(monitor := FakeMonitor(showing(("rag/1", replace(news, report=report)))), registry)

    parts = values(scrape(registry), "sage_dask_latency_seconds_total", "part", "stage")

    assert monitor.num_taken == 1
    assert set(parts.values()) == {0.0}


def test_a_job_of_which_nothing_is_known_yet_has_no_latency(registry):
    """A driver that has said no more than counts, and one that wrote nothing, are no error."""
    silent = replace(progress("rag/1"), report=None, latencies={})
    report = progress("rag/2", 0).report
    none = replace(progress("rag/2", 0), report=replace(report, latency=LatencySummary(*NONE)))
    jobs = showing(("rag/1", silent), ("rag/2", none))
    register(monitor := FakeMonitor(jobs), registry)

    text = scrape(registry)

    assert monitor.num_taken == 1
    assert values(text, "sage_dask_record_latency_seconds_sum", "job_id") == {("2",): 0.0}
    assert set(values(text, "sage_dask_records_total", "job_id")) == {("1",), ("2",)}


NONE = (math.nan, math.nan, math.nan, 0)


def test_a_cluster_that_dask_places_shows_its_nodes(registry):
    """Without a dispatcher there are nodes, and neither tasks nor gates."""
    register(monitor := FakeMonitor(replace(full_snapshot(), scheduling=None)), registry)

    text = scrape(registry)

    assert monitor.num_taken == 1
    assert values(text, "sage_dask_node_threads", "node")["node-0",] == 8
    assert not values(text, "sage_dask_tasks") | values(text, "sage_dask_gate_held_slots")


def test_what_nobody_knows_is_absent(registry):
    """A gate without limit, a server that tells nothing, a new node: no made-up zero."""
    full = full_snapshot(num_nodes=2)
    nodes = [full.nodes[0], replace(full.nodes[1], memory=None, cpu=None)]
    register(monitor := FakeMonitor(replace(full, nodes=nodes)), registry)

    text = scrape(registry)

    assert monitor.num_taken == 1
    assert set(values(text, "sage_dask_gate_limit_slots", "gate")) == {("llm",)}
    assert set(values(text, "sage_dask_node_memory_ratio", "node")) == {("node-0",)}
    told = values(text, "sage_dask_server_waiting_requests", "server")
    assert set(told) == {("http://gpu-0:8000/v1",)}
    assert sorted(values(text, "sage_dask_server_down_seconds", "server").values()) == [0, 12]


def test_the_registry_that_dask_serves_has_ours_and_keeps_no_scheduler():
    """The latest monitor is served; one that is gone leaves nothing behind, and no error."""
    register(first := FakeMonitor(full_snapshot(num_jobs=1)))
    register(second := FakeMonitor(showing(("rag/second", progress("rag/second")))))

    text = scrape(REGISTRY)

    assert (first.num_taken, second.num_taken) == (0, 1)
    assert "python_info" in text, "others' metrics are there, too"
    assert set(values(text, "sage_dask_job_state", "job_id")) == {("second",)}
    del second
    gc.collect()
    assert "sage_dask_" not in scrape(REGISTRY)
    register(third := FakeMonitor(NOTHING))
    assert "sage_dask_observer_errors_total 0.0" in scrape(REGISTRY)
    assert third.num_taken == 1


def test_dask_serves_it_beside_its_own_on_one_scheduler_after_another():
    """A scheduler's /metrics has both, and a later one in the same process only its own."""
    pages = []
    for name in ("rag/first", "rag/second"):
        register(monitor := FakeMonitor(showing((name, progress(name)))))
        with LocalCluster(
            n_workers=0, processes=False, protocol="inproc", dashboard_address="127.0.0.1:0"
        ) as cluster:
            address = f"127.0.0.1:{cluster.scheduler.http_server.port}"
            with urlopen(f"http://{address}/metrics", timeout=30) as answer:
                pages.append(answer.read().decode())
        assert monitor.num_taken == 1

    assert ["dask_scheduler_workers" in page for page in pages] == [True, True]
    shown = [set(values(page, "sage_dask_job_state", "job_id")) for page in pages]
    assert shown == [{("first",)}, {("second",)}]
