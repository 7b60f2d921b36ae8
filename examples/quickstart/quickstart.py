"""Three questions in, two answers and one failure out: a pipeline at its smallest."""

from __future__ import annotations

from pathlib import Path

from sage_dask import Pipeline, Record
from sage_dask.operators import Prompt, ReadJsonl, WriteJsonl
from sage_dask.progress import show_progress

CAPITALS = {"France": "Paris", "Kenya": "Nairobi"}
QUESTIONS = """\
{"id": "q-1", "country": "France"}
{"id": "q-2", "country": "Atlantis"}
{"id": "q-3", "country": "Kenya"}
"""


def answer(record: Record) -> Record:
    """Stand in for a model; the record that raises fails alone."""
    return {**record, "answer": CAPITALS[record["country"]]}


quickstart = (
    Pipeline("quickstart")
    .source(ReadJsonl("questions.jsonl", id="id"))
    .stage("prompt", Prompt(text="What is the capital of {country}?"))
    .map(answer, reads=["prompt"], writes=["answer"])
    .sink(WriteJsonl("answers.jsonl"))
)

if __name__ == "__main__":
    Path("questions.jsonl").write_text(QUESTIONS)
    print(quickstart.plan().explain())
    print(quickstart.run(observer=show_progress()))
