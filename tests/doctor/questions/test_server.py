"""Asking model servers from this process."""

from __future__ import annotations

import pytest

from sage_dask import aio
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.doctor.questions import server
from sage_dask.doctor.questions.server import ask_gauges, ask_server
from sage_dask.doctor.servers import ServerAnswer, ServerQuestion
from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.secret import KeySource
from sage_dask.errors import MissingDependencyError


def test_a_server_tells_models_and_load():
    """Both in one answer; with a time that was measured."""
    with TimedServer(latency_s=0.01) as timed:
        answer = aio.run(ask_server(ServerQuestion(timed.endpoint)))

    assert (answer.models, answer.fault) == (("timed",), "")
    assert (answer.gauges.running, answer.gauges.waiting) == (0, 0)
    assert answer.latency_ms > 0


def test_a_server_that_was_stopped_is_a_fault():
    """In the system's words, without a status."""
    with TimedServer() as timed:
        endpoint = timed.endpoint

    answer = aio.run(ask_server(ServerQuestion(endpoint)))

    assert answer == ServerAnswer(fault="connection refused")


def test_a_key_that_is_not_here_is_told_by_its_name(monkeypatch):
    """No models are asked for without it; the load needs none."""
    monkeypatch.delenv("RAG_KEY", raising=False)

    with TimedServer() as timed:
        question = ServerQuestion(timed.endpoint, key=KeySource(env="RAG_KEY"))
        answer = aio.run(ask_server(question))

    assert "api_key_env='RAG_KEY': no key there" in answer.key_fault
    assert (answer.models, answer.gauges) == ((), Gauges(0, 0, 0))


def test_a_key_stays_out_of_the_answer(monkeypatch):
    """Whatever comes back."""
    monkeypatch.setenv("RAG_KEY", "sk-0123456789abcdef")

    with TimedServer() as timed:
        question = ServerQuestion(timed.endpoint, key=KeySource(env="RAG_KEY"))
        answer = aio.run(ask_server(question))

    assert answer.models == ("timed",)
    assert "0123456789" not in repr((question, answer))


def test_without_an_http_client_there_are_no_gauges(monkeypatch):
    """That is no reason to fail: limits follow refusals."""

    def missing():
        raise MissingDependencyError("no aiohttp")

    monkeypatch.setattr(server, "GaugeReader", missing)

    assert aio.run(ask_gauges("http://127.0.0.1:1/v1")) is None


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://127.0.0.1:1/v1"])
def test_a_server_may_be_named_with_or_without_its_version(endpoint):
    """Both reach the same paths."""
    assert aio.run(ask_server(ServerQuestion(endpoint))).fault == "connection refused"
