"""Every sink there is, by the name that pipelines and YAML files use."""

from __future__ import annotations

from sage_dask.operators.files.csvfile import WriteCsv
from sage_dask.operators.files.jsonlines import WriteJsonl
from sage_dask.operators.files.openai_batch import WriteOpenAIBatch
from sage_dask.operators.files.parquetfile import WriteParquet
from sage_dask.operators.memory import Collect

__all__ = ["Collect", "WriteCsv", "WriteJsonl", "WriteOpenAIBatch", "WriteParquet"]
