"""Whether a server is ready, by what it answers."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sage_dask.cluster.server_probe import NotReadyError, base_url, ready_models
from sage_dask.errors import PlanError

MODELS = (200, b'{"data": [{"id": "a"}, {"id": "b"}]}')


@contextmanager
def serving(answers):
    """Lend the root of a server that answers each path with a status and a body."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.get(self.path, (404, b""))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("health", [200, 404, 401, 403, 405])
def test_models_are_listed_once_the_server_is_healthy(health):
    """A server without /health counts as ready when it lists its models."""
    with serving({"/health": (health, b""), "/v1/models": MODELS}) as base:
        assert ready_models(base) == ("a", "b")


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"/health": (503, b""), "/v1/models": MODELS}, "GET /health is answered 503"),
        ({"/health": (200, b"")}, "GET /v1/models is answered 404"),
        ({"/v1/models": (401, b"")}, "GET /v1/models is answered 401"),
        ({"/v1/models": (200, b"<html>")}, "something else than models"),
        ({"/v1/models": (200, b'{"data": 3}')}, "something else than models"),
    ],
)
def test_a_server_that_is_not_ready_says_how(answers, told):
    """The reason is what a person would have seen with curl."""
    with serving(answers) as base, pytest.raises(NotReadyError, match=told):
        ready_models(base)


def test_nobody_there_is_told_in_plain_words():
    """A refused connection is a reason as any other."""
    with serving({}) as base:
        pass

    with pytest.raises(NotReadyError, match="connection refused"):
        ready_models(base)


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://gpu-0:8000", "http://gpu-0:8000"),
        ("http://gpu-0:8000/", "http://gpu-0:8000"),
        ("http://gpu-0:8000/v1/", "http://gpu-0:8000"),
        ("https://host/openai/v1", "https://host/openai"),
    ],
)
def test_an_address_may_be_written_in_several_ways(given, base):
    """With /v1 or without, with a slash or without."""
    assert base_url(given) == base


@pytest.mark.parametrize("given", ["gpu-0:8000", "ftp://gpu-0", "http://u:p@gpu-0/v1"])
def test_what_is_no_address_is_refused(given):
    """The check is that of all endpoints."""
    with pytest.raises(PlanError, match="ModelServer"):
        base_url(given)
