"""Every query of the dashboard, answered by a real Prometheus that scraped a fake monitor."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from sage_dask.dashboard.prometheus import register
from tests.dashboard.full_snapshot import FakeMonitor, full_snapshot

PROMETHEUS = shutil.which("prometheus")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        PROMETHEUS is None,
        reason="prometheus is not installed; Debian has it in the package of that name",
    ),
]

# A scrape is asked for when the one before was taken in, so by the last of these Prometheus has
# the first state, the second one, and that once more.
SCRAPES = 4

CONFIG = """
scrape_configs:
  - job_name: dask
    scrape_interval: 1s
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""

DASHBOARD = json.loads(files("sage_dask").joinpath("dashboard/grafana.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [
    pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
    for panel in PANELS
    for target in panel["targets"]
]
VARIABLES = [v for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]


@contextmanager
def scraped(scrapes: threading.Semaphore) -> Iterator[int]:
    """Serve metrics of an earlier state once, and of a later one from then on; lend the port.

    Args:
        scrapes: Released once for each scrape.
    """
    states = itertools.chain([full_snapshot(40)], itertools.repeat(full_snapshot(60)))
    register(monitor := FakeMonitor(None), registry := CollectorRegistry())

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self):
            monitor.now = next(states)
            body = generate_latest(registry)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            scrapes.release()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Metrics) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory):
    """Lend the address of a Prometheus that has scraped both states; it ends with the module."""
    folder, scrapes = tmp_path_factory.mktemp("prometheus"), threading.Semaphore(0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config, log = folder / "prometheus.yml", folder / "log"
    command = [
        PROMETHEUS,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with scraped(scrapes) as port, log.open("wb") as output:
        config.write_text(CONFIG.format(port=port))
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        try:
            for _ in range(SCRAPES):
                assert scrapes.acquire(timeout=60), log.read_text()
            yield f"http://{address}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answer(address, path, **query):
    """Return what Prometheus answers."""
    with urlopen(f"{address}/api/v1/{path}?{urlencode(query)}", timeout=30) as response:
        return json.load(response)["data"]


def filled_in(expression):
    """Return an expression as Grafana sends it when all of everything is chosen."""
    return re.sub(r"\$(\w+)", ".*", expression.replace("$__rate_interval", "1h"))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_returns_numbers(prometheus, expression):
    """Prometheus takes it, and each of its series is a finite number that is not negative."""
    found = answer(prometheus, "query", query=filled_in(expression))["result"]

    assert found
    for series in found:
        value = float(series["value"][1])
        assert math.isfinite(value), series
        assert value >= 0, series


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable["name"])
def test_a_variable_has_values_to_choose_from(prometheus, variable):
    """What ``label_values`` asks for is there."""
    asked = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
    selector, label = asked.groups()

    assert answer(prometheus, f"label/{label}/values", **{"match[]": filled_in(selector)})


def test_the_stack_of_the_breakdown_is_the_mean_latency(prometheus):
    """Parts and what is not accounted for add up, over the records between the two states."""
    (panel,) = [panel for panel in PANELS if panel["title"] == "Where the latency goes"]
    latency = "sage_dask_record_latency_seconds"
    mean = f"sum(rate({latency}_sum[1h])) / sum(rate({latency}_count[1h]))"

    stack = [
        float(series["value"][1])
        for target in panel["targets"]
        for series in answer(prometheus, "query", query=filled_in(target["expr"]))["result"]
    ]

    (mean_s,) = answer(prometheus, "query", query=mean)["result"]
    assert sum(stack) == pytest.approx(float(mean_s["value"][1]), rel=1e-6)
    assert len(stack) > 10
