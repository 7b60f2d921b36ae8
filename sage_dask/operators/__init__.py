"""Operators, sources and sinks, by the names that pipelines are written with.

Importing them is cheap: models, indexes and file formats load their libraries
when they are set up.
"""

from __future__ import annotations

from sage_dask.operators.basic import Filter, FlatMap, Map, Select
from sage_dask.operators.embed import Embed
from sage_dask.operators.generate import Generate
from sage_dask.operators.prompt import Prompt
from sage_dask.operators.rerank import Rerank
from sage_dask.operators.retrieve import Retrieve
from sage_dask.operators.sinks import (
    Collect,
    WriteCsv,
    WriteJsonl,
    WriteOpenAIBatch,
    WriteParquet,
)
from sage_dask.operators.sources import (
    FromIterable,
    ReadCsv,
    ReadJsonl,
    ReadOpenAIBatch,
    ReadParquet,
    ReadText,
)
from sage_dask.operators.text import Chunk
from sage_dask.operators.write_index import WriteIndex

__all__ = [
    "Chunk",
    "Collect",
    "Embed",
    "Filter",
    "FlatMap",
    "FromIterable",
    "Generate",
    "Map",
    "Prompt",
    "ReadCsv",
    "ReadJsonl",
    "ReadOpenAIBatch",
    "ReadParquet",
    "ReadText",
    "Rerank",
    "Retrieve",
    "Select",
    "WriteCsv",
    "WriteIndex",
    "WriteJsonl",
    "WriteOpenAIBatch",
    "WriteParquet",
]
