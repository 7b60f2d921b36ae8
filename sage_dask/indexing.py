"""Indexing a corpus, as the ordinary pipeline that it is."""

from __future__ import annotations

from sage_dask.operators.embed import Embed
from sage_dask.operators.models import MINILM
from sage_dask.operators.sources import ReadJsonl
from sage_dask.operators.write_index import WriteIndex
from sage_dask.pipeline import Pipeline


def index_pipeline(
    passages: str,
    index: str,
    *,
    text: str = "text",
    id_field: str = "id",
    model: str = MINILM,
    kind: str = "flat",
    tokens: bool = True,
    bm25: bool = True,
    overwrite: bool = False,
) -> Pipeline:
    """Return the pipeline that embeds passages and writes their index.

    Args:
        passages: JSON lines, one passage each.
        index: Folder to write.
        text: Field that holds a passage.
        id_field: Field that holds its id.
        model: Embedding model.
        kind: ``"flat"``, ``"hnsw"`` or ``"ivf"``.
        tokens: Store token vectors, for reranking.
        bm25: Store words, for hybrid retrieval.
        overwrite: Replace an index of that name.
    """
    tokens_field = "tokens" if tokens else None
    sink = WriteIndex(
        index,
        text=text,
        tokens=tokens_field,
        kind=kind,
        model=model,
        bm25=bm25,
        overwrite=overwrite,
    )
    embed = Embed(text=text, model=model, tokens_into=tokens_field)
    return (
        Pipeline("index").source(ReadJsonl(passages, id=id_field)).stage("embed", embed).sink(sink)
    )
