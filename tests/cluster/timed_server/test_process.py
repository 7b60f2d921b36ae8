"""A timed server as a process: it starts, dies, and comes back on its port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sage_dask.cluster.timed_server import TimedOptions, TimedServerProcess, serve
from sage_dask.errors import RunError

OPTIONS = TimedOptions(latency_s=0.0, api_key="canary")
KEY = {"Authorization": "Bearer canary"}


@pytest.fixture(scope="module")
def shared():
    """Lend a process; tests that kill it start it again."""
    with TimedServerProcess(OPTIONS) as server:
        yield server


def test_it_answers_and_counts(shared, chat):
    """As a server in this process would, in one of its own."""
    shared.reset()

    assert chat(shared, headers={"x_request_id": "a", **KEY}).status == 200

    assert shared.pid not in (None, os.getpid())
    assert shared.ledger() == {"a": {"received": 1, "answered": 1}}
    assert shared.statistics()["answered"] == 1


def test_a_killed_server_refuses_and_a_restarted_one_is_new(shared, chat):
    """The port is the same, and kept while there is nobody."""
    chat(shared, headers={"x_request_id": "before", **KEY})

    shared.kill()

    assert shared.pid is None
    with pytest.raises(ConnectionRefusedError):
        chat(shared)
    shared.restart()
    assert chat(shared, headers={"x_request_id": "after", **KEY}).status == 200
    assert list(shared.ledger()) == ["after"]


def test_a_request_can_kill_it(shared, chat, eventually):
    """The fault 'die' ends the process at once."""
    with pytest.raises(ConnectionError):
        chat(shared, "[[fault:die]]", headers=KEY)

    eventually(lambda: shared.pid is None)
    shared.restart()


def test_nothing_secret_is_on_the_command_line(shared):
    """Anyone on the machine may read it."""
    assert b"canary" not in Path(f"/proc/{shared.pid}/cmdline").read_bytes()


def test_it_ends_with_whoever_started_it(eventually):
    """A starter that is killed can not clean up; its server must not outlive it."""
    script = (
        "import os, sys\n"
        "from sage_dask.cluster.timed_server import TimedServerProcess\n"
        "server = TimedServerProcess().start()\n"
        "print(server.port, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    port = int(done.stdout)

    eventually(lambda: not is_open(port))


def is_open(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_a_process_that_does_not_start_is_told(capfd):
    """With its exit code; why is on the standard error that it shares."""
    server = TimedServerProcess(script={"faults": [{"fault": "bad"}]})
    try:
        with pytest.raises(RunError, match="exit code 1"):
            server.start()
    finally:
        server.close()
    assert "no kind 'bad'" in capfd.readouterr().err


def test_serving_ends_with_an_event_and_tells_its_address():
    """The line has what a user copies into a pipeline."""
    lines, stop = [], threading.Event()

    def say(line):
        lines.append(line)
        stop.set()

    serve(OPTIONS, port=0, say=say, until=stop)

    assert "/v1, model 'timed'; its words are noise" in lines[0]


def test_serving_ends_with_a_signal_and_leaves_handlers_as_they_were():
    """As the command line's user ends it."""
    before = signal.getsignal(signal.SIGTERM)

    serve(OPTIONS, port=0, say=lambda line: os.kill(os.getpid(), signal.SIGTERM))

    assert signal.getsignal(signal.SIGTERM) is before


def test_a_taken_port_is_told():
    """With its number."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(RunError, match=f"can not listen on 127.0.0.1:{port}"):
            serve(OPTIONS, port=port)
