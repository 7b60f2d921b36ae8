"""``sage-dask index`` and ``sage-dask eval``: build, look at and score an index."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

PASSAGES = {
    "cat": "A cat is a small animal with whiskers that purrs and chases mice.",
    "car": "A car has four wheels and an engine, and people drive it on roads.",
    "tea": "Tea is a hot drink that is made by pouring boiling water over leaves.",
    "sun": "The sun is the star in the middle of the solar system.",
}
QUESTIONS = {
    "q1": ("Which pet catches mice?", ["cat"]),
    "q2": ("How do I brew a hot drink from leaves?", ["tea"]),
    "q3": ("Which star do the planets go round?", ["sun"]),
}


def write_rows(path, rows):
    """Write rows as JSON lines."""
    Path(path).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Lend a current directory with four passages and three questions."""
    monkeypatch.chdir(tmp_path)
    write_rows("passages.jsonl", [{"id": name, "text": text} for name, text in PASSAGES.items()])
    write_rows(
        "questions.jsonl",
        [{"id": q, "question": text, "relevant": ids} for q, (text, ids) in QUESTIONS.items()],
    )


@pytest.mark.slow
@pytest.mark.rag
def test_an_index_is_built_described_and_scored(corpus, cli):
    """Passages become an index whose questions are all answered first."""
    built = cli("index", "build", "passages.jsonl", "corpus.index")
    looked = cli("index", "info", "corpus.index", "--verify")
    scored = cli("eval", "corpus.index", "questions.jsonl", "--k", "3", "--rerank-k", "3", "--json")

    assert built.exit_code == 0, built.stderr
    assert "in 4   out 4" in built.stdout
    assert "passages    4\n" in looked.stdout
    assert "flat, by minilm" in looked.stdout
    assert "bm25        yes" in looked.stdout
    assert looked.stdout.endswith("every file is as it was written\n")
    scores = json.loads(scored.stdout)
    assert scores["before"]["recall"] == {"1": 1.0}
    assert scores["after"] == {"num_queries": 3, "recall": {"1": 1.0}, "mrr": 1.0}


@pytest.mark.rag
def test_parts_can_be_left_out(corpus, cli):
    """Token vectors and words are stored only where they are wanted; eval does without."""
    built = cli("index", "build", "passages.jsonl", "c.index", "--no-tokens", "--no-bm25")
    scored = cli("eval", "c.index", "questions.jsonl", "--k", "3", "--rerank-k", "3")

    assert "tokens      none" in built.stdout
    assert "bm25        no" in built.stdout
    assert scored.exit_code == 0, scored.stderr
    assert scored.stdout.startswith("known-item search")
    assert "retrieved" in scored.stdout
    assert "reranked" in scored.stdout


@pytest.mark.rag
def test_rankings_are_compared_at_one_depth(corpus, cli):
    """A passage that stands below the depth of reranking counts as not found before it, too."""
    write_rows(
        "questions.jsonl", [{"id": "q", "question": QUESTIONS["q1"][0], "relevant": ["sun"]}]
    )
    cli("index", "build", "passages.jsonl", "c.index", "--no-bm25")

    scored = cli("eval", "c.index", "questions.jsonl", "--k", "4", "--rerank-k", "1", "--json")

    scores = json.loads(scored.stdout)
    assert scores["before"] == {"num_queries": 1, "recall": {"1": 0.0}, "mrr": 0.0}


@pytest.mark.rag
def test_records_that_fail_are_told_and_left_out(corpus, cli):
    """An empty passage and a question without an answer exit with 3, and the others count."""
    write_rows("passages.jsonl", [{"id": "cat", "text": PASSAGES["cat"]}, {"id": "e", "text": ""}])
    write_rows(
        "questions.jsonl",
        [
            {"id": "q1", "question": QUESTIONS["q1"][0], "relevant": ["cat"]},
            {"id": "q2", "question": "What else?", "relevant": []},
        ],
    )

    built = cli("index", "build", "passages.jsonl", "c.index", "--no-tokens", "--no-bm25")
    scored = cli("eval", "c.index", "questions.jsonl", "--json")

    assert built.exit_code == scored.exit_code == 3
    assert built.stderr.endswith("failed: 1 passage; see 'c.index.failed.jsonl'\n")
    assert scored.stderr.endswith("failed: 1 question, not in the figures\n")
    assert json.loads(scored.stdout)["before"]["num_queries"] == 1


@pytest.mark.rag
def test_questions_that_all_fail_are_no_score(corpus, cli):
    """Where nothing can be scored there is an error with the first reason, and no table."""
    write_rows("questions.jsonl", [{"id": "q", "question": "What?", "relevant": "cat"}])
    cli("index", "build", "passages.jsonl", "c.index", "--no-tokens", "--no-bm25")

    scored = cli("eval", "c.index", "questions.jsonl", "--limit", "5")

    assert scored.exit_code == 1
    assert "none of 1 questions in 'questions.jsonl' was scored" in scored.stderr
    assert "must be a list" in scored.stderr
    assert scored.stdout == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["index", "build", "no.jsonl", "c.index"], "'no.jsonl' does not exist"),
        (["index", "build", "passages.jsonl", "no/c.index"], "'no/c.index'"),
        (["index", "build", "passages.jsonl", "c.index", "--threads", "2"], "add --nodes"),
        (["index", "info", "c.index"], "build one with 'sage-dask index build'"),
        (["eval", "c.index", "questions.jsonl"], "build one with 'sage-dask index build'"),
        (["eval", "c", "q", "--k", "3", "--rerank-k", "4"], "raise --k"),
    ],
)
def test_mistakes_are_plan_errors(corpus, cli, words, says):
    """Missing inputs and options that contradict each other exit with 2 before any work."""
    result = cli(*words)

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert not Path("c.index").exists()
