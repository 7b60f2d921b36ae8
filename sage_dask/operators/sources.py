"""Every source there is, by the name that pipelines and YAML files use."""

from __future__ import annotations

from sage_dask.operators.files.csvfile import ReadCsv
from sage_dask.operators.files.jsonlines import ReadJsonl
from sage_dask.operators.files.openai_batch import ReadOpenAIBatch
from sage_dask.operators.files.parquetfile import ReadParquet
from sage_dask.operators.files.plaintext import ReadText
from sage_dask.operators.memory import FromIterable

__all__ = ["FromIterable", "ReadCsv", "ReadJsonl", "ReadOpenAIBatch", "ReadParquet", "ReadText"]
