"""Machines to run on, and model servers to ask."""

from __future__ import annotations

from sage_dask.cluster.local import LocalNodes
from sage_dask.cluster.model_server import ModelServer
from sage_dask.cluster.vllm_command import VllmOptions

__all__ = ["LocalNodes", "ModelServer", "VllmOptions"]
