"""Machines to run on."""

from __future__ import annotations

from sage_dask.cluster.local import LocalNodes

__all__ = ["LocalNodes"]
