"""The pipeline of rag.yaml in Python, on four nodes of this machine."""

from __future__ import annotations

from sage_dask import Pipeline
from sage_dask.cluster import LocalNodes
from sage_dask.operators import (
    Embed,
    Generate,
    Prompt,
    ReadJsonl,
    Rerank,
    Retrieve,
    Select,
    WriteJsonl,
)
from sage_dask.progress import show_progress

rag = (
    Pipeline("rag")
    .source(ReadJsonl("questions.jsonl", id="id"))
    .stage("embed", Embed(text="question", tokens_into="question_tokens"))
    .stage("retrieve", Retrieve("corpus.index", k=20))
    .stage("rerank", Rerank(k=5, index="corpus.index", query_tokens="question_tokens"))
    .stage("prompt", Prompt("prompt.txt"))
    .stage("generate", Generate())
    # .stage("generate", Generate("http://gpu-0:8000/v1", "Qwen/Qwen2.5-3B-Instruct"))
    .stage("select", Select(["id", "question", "answer", "answer_meta"]))
    .sink(WriteJsonl("answers.jsonl"))
)

# Nodes import the main module as they start, so what starts them stands under this line.
if __name__ == "__main__":
    with LocalNodes(4, preload=rag.imports) as nodes:
        print(rag.plan(nodes).explain())
        print(rag.run(nodes, observer=show_progress()))
