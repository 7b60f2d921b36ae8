"""A real vLLM from start to end: what dies, what is left, and what becomes of the records."""

from __future__ import annotations

import threading
import time
import urllib.request
from contextlib import suppress

import psutil
import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cluster import ModelServer, VllmOptions
from sage_dask.cluster.tiny_model import tiny_model, tiny_words
from sage_dask.errors import RunError
from sage_dask.operators import Generate

pytestmark = pytest.mark.vllm

NUM_RECORDS = 300


@pytest.fixture
def own_server(vllm_python):
    """Lend a server that the test may kill."""
    with ModelServer.start(
        tiny_model(),
        python=vllm_python,
        device="cpu",
        options=VllmOptions(max_num_seqs=8, extra=tiny_words()),
    ) as server:
        yield server


def family(server):
    """Return the processes of a server: guardian, API server, engine and its workers."""
    guardian = psutil.Process(server.pid).parent()
    return [guardian, *guardian.children(recursive=True)]


def left_of(processes):
    """Return those that still run."""
    return [
        process
        for process in processes
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def test_no_record_is_lost_when_the_server_is_killed_in_mid_run(own_server):
    """After kill -9 and a restart, every record has its answer, and none has failed."""
    sink = Collect()
    pipeline = (
        Pipeline("outage")
        .source(FromIterable({"prompt": f"number {number}"} for number in range(NUM_RECORDS)))
        .stage(
            "generate",
            Generate(
                endpoint=own_server.endpoint,
                model=own_server.model,
                max_tokens=48,
                extra={"ignore_eos": True},
                cache=False,
            ),
            batch_size=50,
        )
        .sink(sink)
    )
    reports = []
    run = threading.Thread(target=lambda: reports.append(pipeline.run()), daemon=True)
    processes = family(own_server)

    run.start()
    wait_for_answers(own_server, 20)
    own_server.kill()
    left = left_of(processes)
    own_server.restart()
    run.join(300)

    assert left == []
    assert not run.is_alive()
    (report,) = reports
    assert (report.num_written, report.num_failed) == (NUM_RECORDS, 0)
    assert len({record["prompt"] for record in sink.records}) == NUM_RECORDS
    assert all(record["answer_meta"]["usage"]["completion_tokens"] for record in sink.records)


def test_nothing_is_left_of_a_server_that_was_stopped_at_work(own_server):
    """Server, engine and workers are gone when stop returns, requests under way or not."""
    processes = family(own_server)
    request = threading.Thread(target=ask_for_long, args=(own_server,), daemon=True)
    request.start()
    wait_until_running(own_server)

    own_server.stop()

    assert len(processes) >= 3
    assert left_of(processes) == []
    request.join(60)
    assert not request.is_alive()


def ask_for_long(server):
    """Send a request that would go on for long; how it ends does not matter."""
    body = (
        f'{{"model": "{server.model}", "prompt": "x", "max_tokens": 15000, "ignore_eos": true}}'
    ).encode()
    request = urllib.request.Request(
        f"{server.endpoint}/completions", body, {"Content-Type": "application/json"}
    )
    with suppress(OSError):
        urllib.request.urlopen(request, timeout=300).read()


def wait_for_answers(server, count):
    """Return once the server has answered that many requests."""
    wait_for(server, "vllm:request_success_total", count)


def wait_until_running(server):
    """Return once the server works on something."""
    wait_for(server, "vllm:num_requests_running", 1)


def wait_for(server, name, least):
    """Return once a metric, over all its labels, is that much."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        text = urllib.request.urlopen(f"{server.url}/metrics", timeout=30).read().decode()
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        if sum(float(line.rsplit(" ", 1)[1]) for line in lines) >= least:
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} did not reach {least}")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (VllmOptions(extra=("--no-such-option",)), "does not know --no-such-option;"),
        (VllmOptions(max_model_len=100_000), "more than the model was made for"),
        (VllmOptions(kv_cache_bytes=1 << 20), "no room for the KV cache"),
        (VllmOptions(dtype="float3"), "vLLM refuses an option, --dtype"),
    ],
)
def test_the_cause_of_a_real_death_is_told(vllm_python, options, told):
    """What vLLM itself prints is recognised."""
    with pytest.raises(RunError, match=told) as caught:
        ModelServer.start(tiny_model(), python=vllm_python, device="cpu", options=options)

    assert "ended with exit code" in str(caught.value)


def test_a_folder_without_a_model_is_told(vllm_python, tmp_path):
    """A real vLLM given an empty folder dies with a cause that is recognised."""
    with pytest.raises(RunError, match="there is no such model"):
        ModelServer.start(tmp_path, python=vllm_python, device="cpu")
