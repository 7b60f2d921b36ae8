"""The server that ``make test-vllm`` started, and plain requests to it."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from sage_dask.cluster import ModelServer

aiohttp = pytest.importorskip("aiohttp")


def variable(name):
    """Return what make test-vllm set, or skip the test."""
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} is not set; run these tests with: make test-vllm")
    return value


@dataclass
class Answer:
    """What came back for one request."""

    status: int
    headers: Any
    body: Any = field(repr=False)


@pytest.fixture(scope="session")
def server():
    """Lend the one server of all tests."""
    return ModelServer.attach(variable("SAGE_DASK_VLLM_ENDPOINT"))


@pytest.fixture(scope="session")
def vllm_python():
    """Lend the Python that has vLLM, for tests that need a server of their own."""
    return variable("SAGE_DASK_VLLM_PYTHON")


@pytest.fixture
def ask(server):
    """Lend a function that sends bodies to a path at once, and returns their answers in order."""

    def asked(path, *bodies):
        return asyncio.run(_ask(f"{server.endpoint}/{path}", server.model, bodies))

    return asked


async def _ask(url, model, bodies):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(body):
            async with session.post(url, json={"model": model, **body}) as answer:
                return Answer(answer.status, answer.headers, await answer.json())

        return await asyncio.gather(*(one(body) for body in bodies))


@pytest.fixture
def metric(server):
    """Lend a function that adds up one of the server's metrics, over all its labels but those."""

    def read(name, **labels):
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in asyncio.run(_text(f"{server.url}/metrics")).splitlines()
            if line.startswith(f"{name}{{") and all(label in line for label in wanted)
        )

    return read


async def _text(url):
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()
