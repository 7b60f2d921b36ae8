"""Asking a model server, from whichever process this runs in."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

from sage_dask.cluster.server_probe import NotReadyError, base_url, ready_models
from sage_dask.doctor.servers import ServerAnswer, ServerQuestion
from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.polling import GaugeReader
from sage_dask.errors import MissingDependencyError, SetupError


async def ask_server(question: ServerQuestion) -> ServerAnswer:
    """Return what a server answers here: its models and its load, asked at the same time.

    Raises:
        PlanError: The endpoint is no URL of a server.
    """
    answer, gauges = await asyncio.gather(
        asyncio.to_thread(_models, question), ask_gauges(question.endpoint)
    )
    return replace(answer, gauges=gauges)


async def ask_gauges(endpoint: str) -> Gauges | None:
    """Return a server's load; None where it does not tell, or nothing here can ask."""
    try:
        reader = GaugeReader()
    except MissingDependencyError:
        return None
    try:
        return await reader.read(endpoint)
    finally:
        await reader.close()


def _models(question: ServerQuestion) -> ServerAnswer:
    """Return what a server answers to the question for its models."""
    try:
        key = None if question.key is None else question.key.resolve().reveal()
    except SetupError as error:
        return ServerAnswer(key_fault=str(error))
    started = time.perf_counter()
    try:
        models = ready_models(base_url(question.endpoint), key=key)
    except NotReadyError as error:
        return ServerAnswer(fault=str(error), status=error.status)
    return ServerAnswer(models, latency_ms=1000 * (time.perf_counter() - started))
