"""Every sink there is, by the name that pipelines and YAML files use."""

from __future__ import annotations

from sage_dask.operators.csvfile import WriteCsv
from sage_dask.operators.jsonlines import WriteJsonl
from sage_dask.operators.memory import Collect
from sage_dask.operators.openai_batch import WriteOpenAIBatch
from sage_dask.operators.parquetfile import WriteParquet

__all__ = ["Collect", "WriteCsv", "WriteJsonl", "WriteOpenAIBatch", "WriteParquet"]
