"""The dashboard that the package carries: what Grafana takes, made of a table in tools/."""

from __future__ import annotations

import importlib.util
import itertools
import json
import re
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from sage_dask.dashboard.prometheus import register
from tests.dashboard.full_snapshot import FakeMonitor, full_snapshot

ROOT = Path(__file__).resolve().parents[2]

spec = importlib.util.spec_from_file_location("grafana", ROOT / "tools" / "grafana.py")
grafana = importlib.util.module_from_spec(spec)
# Its dataclasses look their module up.
sys.modules["grafana"] = grafana
spec.loader.exec_module(grafana)

DASHBOARD = json.loads((ROOT / "sage_dask/dashboard/grafana.json").read_text(encoding="utf-8"))
PANELS = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]


def test_the_file_is_what_the_generator_writes():
    """Neither is changed without the other: run tools/grafana.py again."""
    assert grafana.PATH.read_text(encoding="utf-8") == grafana.text()


def test_grafana_finds_what_it_needs_at_the_top():
    """A schema of Grafana 10, a title, and the variables that queries use."""
    assert DASHBOARD["schemaVersion"] >= 38
    assert DASHBOARD["title"]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD)))
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert used - {"__rate_interval", "__all"} == variables
    assert {"datasource", "pipeline", "job"} <= variables


def test_every_panel_is_there_once_and_none_lies_on_another():
    """Ids are unique, places lie within the columns, rows stand above what they name."""
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    covered = [
        (x, y)
        for panel in PANELS
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(covered)) == len(covered)
    assert max(x for x, _ in covered) == 23
    tops = [panel["gridPos"]["y"] for panel in PANELS]
    assert tops == sorted(tops)


def test_the_rows_are_those_that_people_look_for():
    """Jobs first, the scheduler last, and something in each."""
    rows = [panel["title"] for panel in PANELS if panel["type"] == "row"]

    assert rows == [
        "Jobs",
        "Breakdown",
        "Stages",
        "Model servers and gates",
        "Nodes",
        "Scheduler",
    ]
    kinds = [panel["type"] for panel in PANELS]
    assert ("row", "row") not in itertools.pairwise([*kinds, "row"])


@pytest.mark.parametrize("panel", GRAPHS, ids=lambda panel: panel["title"])
def test_a_panel_asks_the_chosen_prometheus_and_says_its_unit(panel):
    """Every datasource is the variable, and each target has a letter of its own."""
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for asking in [panel, *panel["targets"]]:
        assert asking["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters)


def test_every_metric_that_is_asked_for_is_served():
    """Queries and variables name only what a full scrape has, with labels that it has."""
    register(monitor := FakeMonitor(full_snapshot()), registry := CollectorRegistry())
    samples = [sample for family in registry.collect() for sample in family.samples]
    labels_of = {sample.name: set(sample.labels) for sample in samples}
    queries = [target["expr"] for panel in GRAPHS for target in panel["targets"]]
    queries += [v["query"]["query"] for v in DASHBOARD["templating"]["list"] if "refresh" in v]

    asked = re.findall(r"(sage_dask_\w+)(?:\{(.*?)\})?", "\n".join(queries))

    assert monitor.num_taken == 1
    assert len(asked) > 30
    for name, matchers in asked:
        assert name in labels_of
        named = set(re.findall(r"(\w+)=", matchers))
        assert named <= labels_of[name] | {"instance"}, name
