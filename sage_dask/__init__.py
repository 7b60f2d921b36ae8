"""Declarative dataflow for end-to-end LLM inference, on Dask."""

from __future__ import annotations
