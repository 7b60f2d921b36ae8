"""Model servers: started, attached to, restarted, killed; and why they did not start."""

from __future__ import annotations

import socket
import subprocess
import sys

import psutil
import pytest

from sage_dask.cluster import ModelServer, VllmOptions
from sage_dask.errors import PlanError, RunError, SetupError
from tests.cluster.fake_vllm import install_fake_vllm
from tests.processes import is_gone, left_of


@pytest.fixture(autouse=True)
def fake_vllm(tmp_path, monkeypatch):
    """Have servers run a package named vllm that starts at once."""
    install_fake_vllm(tmp_path / "fake")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.delenv("VLLM_API_KEY", raising=False)


@pytest.fixture
def start(tmp_path):
    """Lend a function that starts a server; all of them are stopped after the test."""
    servers = []

    def started(model="good", **options):
        options = {"device": "cpu", "python": sys.executable, "log": tmp_path / "log", **options}
        servers.append(ModelServer.start(model, **options))
        return servers[-1]

    yield started
    for server in servers:
        server.stop()


def engine_of(server):
    """Return the engine that a server started, as its log tells."""
    lines = server.log_path.read_text().splitlines()
    pids = [int(line.split()[1]) for line in lines if line.startswith("engine ")]
    return pids[-1]


def test_a_started_server_answers_and_says_what_it_has(start):
    """When start returns, the endpoint answers, and its model is known by name."""
    server = start()

    assert ModelServer.attach(server.endpoint).models == ("good",)
    assert server.model == "good"
    assert server.endpoint.startswith("http://127.0.0.1:")
    assert repr(server) == f"<ModelServer {server.endpoint}: 'good', pid {server.pid}>"


def test_nothing_is_left_of_a_stopped_server(start):
    """Server and engine are gone when stop returns, the engine's own session notwithstanding."""
    server = start("careless")
    pids = [server.pid, engine_of(server)]

    server.stop()

    assert all(is_gone(pid) for pid in pids)
    assert "ended with" in repr(server)
    with pytest.raises(RunError, match="not ready within 0 s"):
        ModelServer.attach(server.endpoint, timeout_s=0)


def test_a_killed_server_takes_its_engine_with_it_and_starts_again(start):
    """After kill -9 no engine is left; restart brings the same endpoint back."""
    server = start()
    endpoint, engine = server.endpoint, engine_of(server)

    server.kill()

    assert is_gone(engine)
    with pytest.raises(RunError, match="ended with exit code 137: something killed it"):
        server.wait()
    server.restart()
    assert server.endpoint == endpoint
    assert ModelServer.attach(endpoint).model == "good"


def test_nothing_is_left_when_its_owner_is_killed(tmp_path):
    """A driver that ends by kill -9 leaves neither server nor engine behind."""
    log = tmp_path / "log"
    program = (
        "import sys; from pathlib import Path; from sage_dask.cluster import ModelServer\n"
        f"server = ModelServer.start('good', device='cpu', python=sys.executable, "
        f"log=Path({str(log)!r}))\n"
        "print(server.pid, flush=True); sys.stdin.read()"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        server = psutil.Process(int(owner.stdout.readline()))
        guardian = server.parent()
        engine = server.children()[0]
        owner.kill()

    assert left_of([guardian, server, engine]) == []


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("homeless", "there is no such model; give a folder that holds config.json"),
        ("large", "the GPU has too little memory free"),
        ("odd", "ValueError: nobody knows why"),
    ],
)
def test_a_server_that_dies_tells_its_cause(start, tmp_path, model, told):
    """The error carries the cause, with what to do where that is known, and the log."""
    with pytest.raises(RunError) as caught:
        start(model)

    assert told in str(caught.value)
    assert f"(log: {tmp_path / 'log'})" in str(caught.value)


def test_the_cause_is_that_of_the_last_run(start, tmp_path):
    """What an earlier run said in the same log is not taken for this one's cause."""
    (tmp_path / "log").write_text("OSError: [Errno 98] Address already in use\n")

    with pytest.raises(RunError, match="nobody knows why"):
        start("odd")


def test_a_server_that_is_not_ready_in_time_is_given_up(start, tmp_path):
    """The wait has a bound; the error tells what was seen last, and what may be done."""
    told = rf"not ready within 0 s; it last said: '.+'; raise timeout_s .* \(log: {tmp_path}/log\)"

    with pytest.raises(RunError, match=told):
        start("silent", timeout_s=0)


def test_a_long_start_is_told_and_leaves_nothing_when_it_is_interrupted(
    start, tmp_path, monkeypatch
):
    """Every few seconds a line says what the server said last; Ctrl-C then ends it all."""
    monkeypatch.setattr("sage_dask.cluster.model_server._SAY_EVERY_S", 0.0)
    lines = []

    def listen(line):
        lines.append(line)
        if line.endswith("s, Loading weights: 10%"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("silent", say=listen)

    words = (tmp_path / "log").read_text().split()
    assert lines[0].startswith("waiting for http://127.0.0.1:")
    assert is_gone(int(words[words.index("engine") + 1]))


def test_a_taken_port_is_refused_before_anything_starts(start, tmp_path):
    """Whoever has the port would answer in place of the new server."""
    told = r"can not listen on 127\.0\.0\.1 port \d+ \(Address already in use\); choose another"

    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(RunError, match=told):
        start(port=other.getsockname()[1])

    assert not (tmp_path / "log").exists()


def test_what_is_asked_for_reaches_the_command_line(start):
    """Options become flags; a folder's model is served under its own name, without the hub."""
    folder = start().log_path.parent
    (folder / "my-model").mkdir()

    server = start(
        folder / "my-model",
        options=VllmOptions(max_num_seqs=4, priorities=True, extra=("--swap-space", "2")),
        log=folder / "other",
    )

    said = (folder / "other").read_text()
    for word in ('"--max-num-seqs", "4"', '"--scheduling-policy", "priority"', '"--swap-space"'):
        assert word in said
    assert "offline 1" in said
    assert "offline None" in (folder / "log").read_text()
    assert server.model == "my-model"


def test_a_key_is_asked_for_and_shown_nowhere(start, monkeypatch):
    """Requests must bring the key; it is in no repr, command line or log."""
    monkeypatch.setenv("MY_KEY", "canary-0123456789")
    server = start(api_key_env="MY_KEY")

    with pytest.raises(RunError, match="GET /v1/models is answered 401"):
        ModelServer.attach(server.endpoint, timeout_s=0)
    attached = ModelServer.attach(server.endpoint, api_key_env="MY_KEY")

    shown = [
        repr(server),
        repr(server._launch),
        repr(attached),
        server.log_path.read_text(),
        *psutil.Process(server.pid).cmdline(),
        *psutil.Process(server.pid).parent().cmdline(),
    ]
    assert attached.models == ("good",)
    assert not any("canary" in text for text in shown)
    with pytest.raises(SetupError, match="NO_SUCH_KEY"):
        ModelServer.attach(server.endpoint, api_key_env="NO_SUCH_KEY")


def test_an_attached_server_is_not_ours_to_end(start):
    """Leaving its block lets it run; killing, restarting and waiting are refused."""
    server = start()

    with ModelServer.attach(server.url) as attached:
        for action in (attached.kill, attached.restart, attached.wait):
            with pytest.raises(RunError, match="was not started here"):
                action()
    attached.stop()

    assert attached.log_path is attached.pid is None
    assert repr(attached) == f"<ModelServer {server.endpoint}: 'good', attached>"
    server.wait_ready(timeout_s=0)


def test_a_model_that_the_server_has_not_is_refused(start):
    """The error lists what it has, and suggests the closest."""
    server = start()

    server.require_model("good")
    with pytest.raises(PlanError, match="no model 'goof'; it has 'good'; did you mean 'good'"):
        server.require_model("goof")


def test_a_temporary_log_goes_with_a_server_that_did_well(start):
    """A log of no interest is removed; that of a server that died is kept."""
    well, badly = start(log=None), start(log=None)
    badly.kill()

    well.stop()
    badly.stop()

    assert not well.log_path.exists()
    assert badly.log_path.exists()
    badly.log_path.unlink()


@pytest.mark.parametrize("model", ["/no/such/folder", "./no-such-folder"])
def test_a_path_that_leads_nowhere_is_refused(start, model):
    """What looks like a path is not asked of a hub."""
    with pytest.raises(PlanError, match="there is no folder"):
        start(model)
