"""Every source there is, by the name that pipelines and YAML files use."""

from __future__ import annotations

from sage_dask.operators.csvfile import ReadCsv
from sage_dask.operators.jsonlines import ReadJsonl
from sage_dask.operators.memory import FromIterable
from sage_dask.operators.openai_batch import ReadOpenAIBatch
from sage_dask.operators.parquetfile import ReadParquet
from sage_dask.operators.plaintext import ReadText

__all__ = ["FromIterable", "ReadCsv", "ReadJsonl", "ReadOpenAIBatch", "ReadParquet", "ReadText"]
