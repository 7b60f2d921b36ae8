"""Machines to run on, and model servers to ask."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sage_dask.cluster.local import LocalNodes
    from sage_dask.cluster.model_server import ModelServer
    from sage_dask.cluster.vllm_command import VllmOptions

__all__ = ["LocalNodes", "ModelServer", "VllmOptions"]

# Dask takes half a second to import, which a server that has no use for it need not pay.
_MODULES = {
    "LocalNodes": "sage_dask.cluster.local",
    "ModelServer": "sage_dask.cluster.model_server",
    "VllmOptions": "sage_dask.cluster.vllm_command",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
