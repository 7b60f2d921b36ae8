"""One suite over all runners: whatever a model server does, no record is lost and the run ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cluster import LocalNodes
from sage_dask.cluster.timed_server import TimedServer, TimedServerProcess
from sage_dask.endpoint import breaker
from sage_dask.errors import StopRun
from sage_dask.operators import Generate

_COMMAND = str(Path(sys.executable).with_name("sage-dask"))
_ATTEMPTS = 2


@pytest.fixture
def server():
    """A timed server of sixteen seats."""
    with TimedServer(seats=16, latency_s=0.03) as server:
        yield server


@pytest.fixture(scope="module")
def nodes():
    """Three node processes."""
    with LocalNodes(3, threads=2, dashboard=None) as nodes:
        yield nodes


def asking(server, prompts, **options):
    """Return a pipeline that sends each prompt as one request."""
    operator = Generate(
        endpoint=server.endpoint,
        model="timed",
        max_tokens=4,
        attempts=options.pop("attempts", _ATTEMPTS),
        **options,
    )
    records = [{"prompt": prompt} for prompt in prompts]
    return Pipeline("asking").source(FromIterable(records)).stage("ask", operator).sink(Collect())


def prompts(number, marked=(), fault=""):
    """Return prompts, of which those marked make the server fail."""
    marker = f" [[fault:{fault}]]"
    return [f"question {each}" + (marker if each in marked else "") for each in range(number)]


def requests_by_call(server):
    """Return how many requests each call took, and how many of them were answered."""
    received, answered = Counter(), Counter()
    for name, counts in server.ledger().items():
        call = name.rpartition("-")[0]
        received[call] += counts["received"]
        answered[call] += counts["answered"]
    return received, answered


def wait_until(condition):
    """Wait for what must come about; the test's own timeout bounds it."""
    while not condition():
        time.sleep(0.02)


# By fault: how many requests it costs a record, and what the failed file then says.
FAULTS = {
    "refuse": (_ATTEMPTS, r"gave no answer \(2 attempts, last: "),
    "hang": (_ATTEMPTS, r"last: no .* within 1 s \(raise"),
    "hang-during": (_ATTEMPTS, r"last: no .* within 1 s \(raise"),
    "cut": (_ATTEMPTS, r"gave no answer \(2 attempts, last: "),
    "truncated": (_ATTEMPTS, "last: the answer was cut"),
    "wrong-json": (_ATTEMPTS, "last: the answer is no JSON"),
    "500": (_ATTEMPTS, "last: 500 planted fault"),
    "empty": (1, "answered without text"),
    "400": (1, "refused the request: 400 planted fault"),
}


def test_records_whose_requests_fail_are_told_of_and_no_others_suffer(on, server, monkeypatch):
    """Nine faults make nine failures, in one line each, after their tries and no more."""
    # Seven of them can be the last to be asked, and would be an outage, which no record pays for.
    monkeypatch.setattr(breaker, "FAILURES_IN_A_ROW", 100)
    marks = dict(zip(range(10, 190, 20), FAULTS, strict=True))
    questions = [f"{n}" + (f" [[fault:{marks[n]}]]" if n in marks else "") for n in range(200)]
    pipeline = asking(server, questions, timeout_s=1.0, idle_s=1.0)

    report = pipeline.run(on)

    received, answered = requests_by_call(server)
    assert (report.num_read, report.num_written, report.num_failed) == (200, 191, 9)
    assert len(received) == 200
    assert max(received.values()) <= _ATTEMPTS
    assert set(answered.values()) <= {0, 1}
    for failure in pipeline.output.failures:
        attempts, message = FAULTS[marks[int(failure.id) - 1]]
        assert failure.attempts == attempts
        assert re.search(message, failure.message)
        assert "\n" not in failure.message


@pytest.mark.parametrize(
    "where",
    [
        pytest.param((20, 50, 80), id="among others"),
        pytest.param((96, 97, 98, 99), id="last", marks=pytest.mark.slow),
    ],
)
def test_poison_fails_and_neither_closes_the_server_nor_stops_the_run(on, server, where):
    """Requests that always reset the connection fail, also when nothing else is left to ask."""
    # Twelve failures at the end, with no answer between them, are more than open the breaker.
    pipeline = asking(server, prompts(100, where, "refuse"), attempts=3)

    report = pipeline.run(on)

    assert (report.num_written, report.num_failed) == (100 - len(where), len(where))
    assert {failure.id for failure in pipeline.output.failures} == {str(n + 1) for n in where}


def test_a_run_after_one_that_gave_up_asks_a_server_that_is_back(on, server):
    """An outage stops the run in one line; started again, the server serves the next run."""
    server.outage(float("inf"))
    with pytest.raises(StopRun, match=r"for 2 s .* start it, then run again") as caught:
        asking(server, prompts(40), max_outage_s=2.0).run(on)
    server.recover()

    report = asking(server, prompts(40), max_outage_s=2.0).run(on)

    assert "\n" not in str(caught.value)
    assert report.num_written == 40


def test_a_dead_replica_costs_no_record(on, server):
    """Requests go to the one that lives, though the other was never there."""
    with TimedServer() as dead:
        dead.outage(float("inf"))
        operator = Generate(
            endpoint=[dead.endpoint, server.endpoint], model="timed", max_tokens=4, max_outage_s=5.0
        )
        source = FromIterable([{"prompt": each} for each in prompts(60)])
        pipeline = Pipeline("replicas").source(source).stage("ask", operator).sink(Collect())

        report = pipeline.run(on)

    assert report.num_written == 60


@contextmanager
def running(pipeline, on):
    """Run a pipeline beside the test; it must write every record by the end of the block."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(pipeline.run, on)
        yield
        report = future.result()
    assert report.num_written == report.num_read
    assert report.num_failed == 0


def answered_of(server):
    """Return how many requests were answered."""
    return server.statistics()["answered"]


@pytest.mark.cluster
def test_a_killed_node_gives_its_slots_to_the_others(nodes, server):
    """Its batches are asked again elsewhere, and the server is as full as before."""
    with running(asking(server, prompts(600), limit=16), nodes):
        wait_until(lambda: answered_of(server) > 100)
        os.kill(next(iter(nodes.client.run(os.getpid).values())), signal.SIGKILL)
        wait_until(lambda: answered_of(server) > 300)
        server.reset()

    assert server.statistics()["most_running"] == 16


@pytest.mark.slow
@pytest.mark.cluster
def test_a_stopped_node_holds_up_no_other(nodes, server):
    """While it stands still the others go on, and what it had in hand is not lost."""
    with running(asking(server, prompts(600), limit=16), nodes):
        wait_until(lambda: answered_of(server) > 100)
        stopped = next(iter(nodes.client.run(os.getpid).values()))
        os.kill(stopped, signal.SIGSTOP)
        try:
            before = answered_of(server)
            wait_until(lambda: answered_of(server) > before + 50)
        finally:
            os.kill(stopped, signal.SIGCONT)

    assert set(requests_by_call(server)[0].values()) == {1}


@pytest.mark.cluster
def test_a_gate_is_moved_while_requests_run(nodes, server):
    """Lowered it is obeyed, closed nothing runs, and without it the server is full again."""
    control = nodes.scheduling
    with running(asking(server, prompts(800), limit=16), nodes):
        wait_until(lambda: answered_of(server) > 50)
        control.set_gate(server.endpoint, 3)
        # Until all workers know, they may go by what they had.
        wait_until(lambda: control.statistics().servers[server.endpoint].allotted <= 3)
        wait_until(lambda: server.statistics()["running"] <= 3)
        server.reset()
        wait_until(lambda: answered_of(server) > 20)
        lowered = server.statistics()["most_running"]
        control.set_gate(server.endpoint, 0)
        wait_until(lambda: server.statistics()["running"] == 0)
        control.set_policy("spread")
        control.set_gate(server.endpoint, 16)
        wait_until(lambda: server.statistics()["running"] == 16)

    assert lowered == 3
    assert set(requests_by_call(server)[0].values()) == {1}


@pytest.mark.cluster
def test_detaching_the_dispatcher_lets_the_run_end(nodes, server):
    """Workers send on without it, each record once."""
    with running(asking(server, prompts(400)), nodes):
        wait_until(lambda: answered_of(server) > 50)
        nodes.scheduling.detach()

    assert set(requests_by_call(server)[0].values()) == {1}


@pytest.fixture
def spec(tmp_path):
    """Lend the function that writes a pipeline for the command line; it returns its folder."""

    def write(server, **options):
        records = [json.dumps({"prompt": each}) for each in prompts(400)]
        (tmp_path / "prompts.jsonl").write_text("\n".join(records))
        declared = {"endpoint": server.endpoint, "model": "timed", "max_tokens": 4, **options}
        pipeline = {
            "pipeline": "ask",
            "source": {"read_jsonl": {"path": "prompts.jsonl"}},
            "stages": [{"generate": declared, "batch_size": 8}],
            "sink": {"write_jsonl": {"path": "answers.jsonl"}},
        }
        (tmp_path / "ask.yaml").write_text(json.dumps(pipeline))
        return tmp_path

    return write


@contextmanager
def command(folder):
    """Lend a running ``sage-dask run``; it is ended with the block."""
    words = [_COMMAND, "run", "ask.yaml", "--batch-size", "8"]
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.cluster
def test_a_server_that_is_killed_for_good_ends_the_command_and_keeps_what_was_written(spec):
    """The exit code is 1, one line says what to do, and the answers so far are there."""
    with TimedServerProcess(seats=16, latency_s=0.05) as server:
        folder = spec(server, max_outage_s=1.0)
        with command(folder) as process:
            wait_until(lambda: answered_of(server) > 50)
            server.kill()
            _, said = process.communicate()

    assert process.returncode == 1
    assert "unreachable for 1 s" in said
    assert "run again" in said
    assert "Traceback" not in said
    assert (folder / "answers.jsonl.partial").read_text().count("\n") >= 8


@pytest.mark.cluster
def test_ctrl_c_calls_off_what_is_under_way(spec):
    """Answers that would take ten minutes are not waited for, and the exit code is 130."""
    with TimedServer(seats=64, latency_s=600) as server:
        with command(spec(server, limit=64)) as process:
            wait_until(lambda: server.statistics()["running"] == 64)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate()
        wait_until(lambda: server.statistics()["running"] == 0)

    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
