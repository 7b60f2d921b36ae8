"""An API key is seen by its server alone, however hostile that is and wherever one looks."""

from __future__ import annotations

import base64
import gzip
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import traceback
import urllib.request
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.error import HTTPError
from urllib.parse import quote

import psutil
import pytest

from sage_dask import FromIterable, Pipeline
from sage_dask.cluster import LocalNodes
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.dashboard.asking import snapshot_of
from sage_dask.dashboard.page import failures
from sage_dask.durable.known_rows import known_rows
from sage_dask.durable.run_events import run_events
from sage_dask.errors import PlanError, StopRun
from sage_dask.life.fold import LifeBuilder
from sage_dask.life.words import sentences
from sage_dask.operators import Generate, WriteJsonl
from sage_dask.report import Report, tables
from sage_dask.report.html import report_page
from sage_dask.report.latex import latex
from sage_dask.report.series import SeriesBuilder
from sage_dask.spans.fold import spans_of
from sage_dask.worker import make_program

KEY = "sk-cAnArY/0123+456789/abcdef"
VARIABLE = "SAGE_CANARY"

_COMMAND = str(Path(sys.executable).with_name("sage-dask"))

# Where the answers of the server come to be shown, with a placeholder for the key.
_SHOWN = (
    *("snapshot", "latest failures on the page", "report, from events", "HTML, from events"),
    *("LaTeX, from events", "life of 1, from events"),
)

_PAGES = (
    *("info/main/workers.html", "info/main/exceptions.html", "info/main/logs.html", "metrics"),
    *("json/counts.json", "json/identity.json", "status"),
    *("pipelines", "individual-pipelines"),
)


def spellings():
    """Return what must be found nowhere: the key, and the forms in which servers repeat it."""
    texts = [KEY, json.dumps(KEY)[1:-1].replace("/", "\\/"), quote(KEY, safe=""), quote(KEY)]
    texts.append("cAnArY")
    texts += [base64.b64encode(b" " * n + KEY.encode()).decode()[4:32] for n in range(3)]
    return [text.encode() for text in texts]


def leaks(found):
    """Return the places, by name, in whose bytes the key can be read."""
    return sorted(
        name
        for name, content in found.items()
        if any(each in content or each in _unzipped(content) for each in spellings())
    )


def _unzipped(content):
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else b""


class Echo(BaseHTTPRequestHandler):
    """Answers with the key of the request, in the place that the prompt names."""

    protocol_version = "HTTP/1.1"
    release = threading.Event()
    arrived = threading.Event()
    seen: ClassVar[set[str]] = set()

    def do_POST(self):
        """Repeat the key."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        key = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        self.seen.add(key)
        text = json.loads(content)["messages"][0]["content"]
        if text == "hang":
            self.arrived.set()
            self.release.wait(60)
        status, body, kind = self._answer(text, key)
        self.send_response(status, f"no {key}")
        self.send_header("X-Key", key)
        self.send_header("Content-Type", kind)
        self.send_header("Location", f"http://else/?key={quote(key)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, text, key):
        error = {"error": {"message": f"Incorrect API key provided: {key}", "code": key}}
        bodies = {
            "refused": (400, json.dumps(error)),
            "quoted": (400, quote(key, safe="")),
            "base64": (400, base64.b64encode(f"Bearer {key}".encode()).decode()),
            "broken": (500, f"<html>Authorization: Bearer {key}</html>"),
            "no JSON": (200, f"<html>{key}</html>"),
            "late error": (200, json.dumps(error)),
            "unauthorised": (401, json.dumps(error)),
            "redirect": (302, ""),
        }
        if text == "stream":
            parts = [key[:9], key[9:]]
            events = [{"choices": [{"index": 0, "delta": {"content": each}}]} for each in parts]
            events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            lines = "".join(f"data: {json.dumps(each)}\n\n" for each in events)
            return 200, f"{lines}data: [DONE]\n\n".encode(), "text/event-stream"
        answer = {
            "id": key,
            "model": f"model-{key}",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": f"{text} {key}"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, key: 3},
        }
        status, body = bodies.get(text, (200, json.dumps(answer)))
        return status, body.encode(), "application/json"

    def do_GET(self):
        """Have no metrics to tell."""
        self.send_error(404)

    def log_message(self, *args):
        """Keep quiet: the log of the server may show the key."""


@contextmanager
def echoing():
    """Lend the endpoint of a server that repeats keys."""
    Echo.release.clear()
    Echo.arrived.clear()
    Echo.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        Echo.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


ECHOES = ["refused", "quoted", "base64", "broken", "no JSON", "late error", "plain"]


def pipeline(endpoint, prompts, folder, **options):
    """Return a pipeline that asks a server and writes into a folder."""
    operator = Generate(
        endpoint=endpoint, model="timed", max_tokens=4, cache=str(folder / "cache.db"), **options
    )
    source = FromIterable([{"prompt": prompt} for prompt in prompts])
    return (
        Pipeline("secret")
        .source(source)
        .stage("generate", operator)
        .sink(WriteJsonl(folder / "answers.jsonl"))
    )


@pytest.fixture
def key_file(tmp_path_factory):
    """The file that holds the key, in a folder that is not searched."""
    path = tmp_path_factory.mktemp("keys") / "key"
    path.write_text(f"{KEY}\n")
    return path


@pytest.fixture(scope="module")
def nodes():
    """Two node processes with a dashboard."""
    with LocalNodes(2, threads=2) as nodes:
        yield nodes


def _exporting(path):
    """Return what takes the key from its file into a node's environment, as a login would."""
    variable = VARIABLE

    def export():
        os.environ[variable] = Path(path).read_text(encoding="ascii").strip()

    return export  # Travels by value, as nodes can not import this module.


def files_in(folder):
    """Return what lies in a folder, by path."""
    return {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def everything_about(error):
    """Return all texts that an exception leads to, its hidden context included."""
    seen = [error]
    for each in seen:
        seen += [more for more in (each.__cause__, each.__context__) if more is not None]
    texts = ["".join(traceback.format_exception(each)) for each in seen]
    texts += [repr(vars(each)) + repr(pickle.dumps(each)) for each in seen]
    return "".join(texts).encode()


def cluster_tells(nodes, folder):
    """Return what a cluster tells about itself: state, events, logs, pages, command lines."""
    client = nodes.client
    client.dump_cluster_state(str(folder / "state"))
    snapshot = snapshot_of(client, num_points=60)
    told = {
        "events": client.get_events(),
        "scheduler's log": client.get_scheduler_logs(),
        "workers' logs": client.get_worker_logs(),
        "nannies' logs": client.get_worker_logs(nanny=True),
        "call stacks": client.call_stack(),
        "story": nodes.scheduling.why("generate"),
        "statistics": nodes.scheduling.statistics(),
        "snapshot": snapshot,
        "latest failures on the page": failures.render(snapshot, None),
    }
    found = {name: repr(value).encode() + pickle.dumps(value) for name, value in told.items()}
    for process in psutil.Process().children(recursive=True):
        found[f"command line of {process.pid}"] = "\0".join(process.cmdline()).encode()
    return found | pages(nodes)


def run_tells(folder):
    """Return what is made of the events of a run: report in all forms, spans, lives of records."""
    events = list(run_events(folder))
    report, series = Report.from_events(events), SeriesBuilder()
    lives = {str(number): LifeBuilder(str(number)) for number in range(1, 9)}
    for event in events:
        for fold in (series, *lives.values()):
            fold.add(event)
    told = {
        "report": f"{report!r} {report} {asdict(report)}",
        "HTML": report_page(report, series.series()),
        "LaTeX": latex([tables.last_failures_table(report)], ""),
        "spans": repr(list(spans_of(events))),
    }
    for each, builder in lives.items():
        life = builder.life(known_rows(folder, [each]))
        assert life.is_known
        told[f"life of {each}"] = repr(life) + "".join(sentences(life, is_held=False))
    return {f"{name}, from events": text.encode() for name, text in told.items()}


def pages(nodes):
    """Return the pages of the dashboard, those of single workers and tasks too."""
    base = nodes.dashboard_link.removesuffix("/status")
    workers = nodes.client.scheduler_info(n_workers=-1)["workers"]
    paths = [
        *_PAGES,
        *(
            f"info/{kind}/{quote(each, safe='')}.html"
            for each in workers
            for kind in ("worker", "logs", "call-stacks")
        ),
    ]
    found = {}
    for path in paths:
        try:
            with urllib.request.urlopen(f"{base}/{path}", timeout=30) as page:
                found[path] = page.read()
        except HTTPError as page:
            # Dask's own templates trip over workers that are new; that, too, is a page to read.
            found[path] = page.read()
    return found


@pytest.mark.cluster
@pytest.mark.parametrize("place", ["env", "file"])
def test_a_key_shows_nowhere_on_a_cluster(nodes, tmp_path, key_file, place, caplog, capfd):
    """Not in mid-run, not in what is left of it, though the server repeats it everywhere."""
    caplog.set_level(logging.DEBUG)
    nodes.client.run(_exporting(str(key_file)))
    given = {"api_key_env": VARIABLE} if place == "env" else {"api_key_file": str(key_file)}
    reports = []
    with echoing() as endpoint:
        declared = pipeline(endpoint, [*ECHOES, "hang"], tmp_path, attempts=1, **given)
        thread = threading.Thread(
            target=lambda: reports.append(declared.run(nodes, run_dir=tmp_path / "run"))
        )
        thread.start()
        assert Echo.arrived.wait(30)
        found = cluster_tells(nodes, tmp_path)
        Echo.release.set()
        thread.join()
        found["report"] = repr(reports[0]).encode() + str(reports[0]).encode()
        # Only now all has been told that there is to tell; a snapshot is shared for half a second.
        for _ in range(3000):
            if all(view.is_over for view in snapshot_of(nodes.client).jobs):
                break
        later = cluster_tells(nodes, tmp_path) | run_tells(tmp_path / "run")
        found |= {f"{name}, afterwards": content for name, content in later.items()}
        seen = set(Echo.seen)

    out, err = capfd.readouterr()
    found |= files_in(tmp_path) | {"log": caplog.text.encode(), "console": (out + err).encode()}
    found["declaration"] = pickle.dumps(declared) + repr(declared).encode()
    found["program"] = make_program(declared.plan().stages[0], job="job").pickled
    assert seen == {KEY}
    assert (reports[0].num_written, reports[0].num_failed) == (2, 6)
    assert leaks(found) == []
    shown = {name for name, content in found.items() if b"[key]" in content}
    assert shown >= {f"{name}, afterwards" for name in _SHOWN}


@pytest.mark.cluster
@pytest.mark.parametrize("mode", ["unauthorised", "redirect"])
def test_the_error_that_stops_a_run_does_not_hold_the_key(nodes, tmp_path, key_file, mode, capfd):
    """Neither its text nor its causes, as they come back from a worker."""
    with echoing() as endpoint, pytest.raises(StopRun) as caught:
        pipeline(endpoint, [mode], tmp_path, api_key_file=str(key_file)).run(nodes)

    out, err = capfd.readouterr()
    found = {"error": everything_about(caught.value), "console": (out + err).encode()}
    assert leaks(found | files_in(tmp_path)) == []
    assert b"[key]" in found["error"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_key_shows_nowhere_in_process(tmp_path, key_file, monkeypatch, caplog, stream):
    """The same without a cluster; a stream that spells the key over two events included."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(VARIABLE, KEY)
    prompts = ["stream"] * 3 if stream else ECHOES
    with echoing() as endpoint:
        options = {"api_key_env": VARIABLE, "attempts": 1, "stream": stream}
        report = pipeline(endpoint, prompts, tmp_path, **options).run(run_dir=tmp_path / "run")

    found = files_in(tmp_path) | {"log": caplog.text.encode(), "report": str(report).encode()}
    assert report.num_written == (3 if stream else 1)
    assert leaks(found) == []
    assert b"[key]" in found[str(tmp_path / "answers.jsonl")]


def test_a_wrong_key_is_told_in_one_line_of_the_command(tmp_path, key_file):
    """``sage-dask run`` names the variable's parameter and not the key that was refused."""
    with TimedServer(api_key="another") as server:
        (tmp_path / "prompts.jsonl").write_text('{"prompt": "a"}\n')
        (tmp_path / "ask.yaml").write_text(
            f"""
pipeline: ask
source:
  read_jsonl: {{path: prompts.jsonl}}
stages:
  - generate: {{endpoint: "{server.endpoint}", model: timed, api_key_env: {VARIABLE}}}
sink:
  write_jsonl: {{path: answers.jsonl}}
"""
        )
        done = subprocess.run(
            [_COMMAND, "run", "ask.yaml", "--run-dir", "run"],
            cwd=tmp_path,
            env={**os.environ, VARIABLE: KEY},
            capture_output=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 1
    assert b"api_key_env" in done.stderr
    assert b"Traceback" not in done.stderr
    assert leaks({"console": done.stdout + done.stderr, **files_in(tmp_path)}) == []


def test_a_key_in_place_of_its_name_is_not_repeated():
    """Whoever gives the key itself is told so, without it."""
    declared = Generate(endpoint="http://gpu-0/v1", model="m", api_key_env=KEY)

    with pytest.raises(PlanError, match="not the key itself") as caught:
        declared.check()

    assert leaks({"error": everything_about(caught.value)}) == []


def test_the_search_finds_what_it_looks_for():
    """Each spelling is a leak, zipped or not, and a shown placeholder is none."""
    assert leaks({"a": b"x" + KEY.encode(), "b": b"[key]"}) == ["a"]
    assert leaks({"zip": gzip.compress(KEY.encode())}) == ["zip"]
    assert all(leaks({"each": each}) == ["each"] for each in spellings())
