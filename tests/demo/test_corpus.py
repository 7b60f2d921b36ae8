"""The corpus: honest questions, stable names, the same bytes every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from sage_dask.demo.corpus import build_corpus, make_corpus
from sage_dask.demo.entries import Entry, read_entries, standard_library
from sage_dask.errors import PlanError

QUESTION = "Return the answer to a question about life."
REST = " ".join(f"It names reason{'abcdefghijklmnopqrstuvwxyz'[i]} first." for i in range(10))


@pytest.fixture(scope="module")
def email():
    """The corpus of one real package: a few hundred passages."""
    return make_corpus(read_entries(standard_library() / "email"))


def entry(name="mod.f", text=f"{QUESTION}\n{REST}", **options):
    return Entry(name, "(x)", "mod.py", text, **options)


def read_lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_question_is_taken_out_of_its_passage():
    """The first sentence asks, the rest with name and signature answers."""
    (passage,), (question,) = make_corpus([entry()])

    assert question.question == QUESTION
    assert question.relevant == ("mod.f",)
    assert passage.text == f"mod.f(x)\n\n{REST}"
    assert (passage.id, passage.title, passage.source) == ("mod.f", "mod.f", "mod.py")


@pytest.mark.parametrize(
    "text",
    [
        f"Too short this.\n{REST}",
        f"Return {'very ' * 30}much.\n{REST}",
        f"Return the answer\n\n{REST}",
        f"This returns the answer to it.\n{REST}",
        f"Return x[0] of the given list.\n{REST}",
        f"{QUESTION}\nToo little is left.",
        f"{QUESTION}\n{REST} {QUESTION}",
        f"{QUESTION}\n{REST * 20}",
    ],
    ids=["short", "long", "no full stop", "pointing", "code", "little left", "repeated", "many"],
)
def test_what_is_no_honest_question_stays_whole(text):
    """An unfit opening asks nothing, and its entry keeps all of its text."""
    passages, questions = make_corpus([entry(text=text)])

    assert questions == []
    assert text.split()[:4] == passages[0].text.split()[1:5]


def test_a_topic_asks_nothing():
    """The language reference only answers."""
    passages, questions = make_corpus([entry(name="life", is_docstring=False)])

    assert questions == []
    assert passages[0].text.startswith(f"Topic life\n\n{QUESTION}")


def test_a_sentence_of_two_docstrings_asks_nothing():
    """A question with several right answers, of which one is marked, is not asked."""
    other = entry(name="mod.g", text=f"{QUESTION} Short.")

    _, questions = make_corpus([entry(), other])

    assert questions == []


def test_long_entries_are_numbered_pieces():
    """Further pieces have the name with a number, and the head on each."""
    text = " ".join(f"word{i}" for i in range(250))

    passages, _ = make_corpus([entry(text=text)])

    assert [passage.id for passage in passages] == ["mod.f", "mod.f#2", "mod.f#3"]
    assert all(passage.text.startswith("mod.f(x)\n\n") for passage in passages)


def test_real_documentation_gives_honest_pairs(email):
    """No question stands in a passage that answers it, and at least 25 words are left."""
    passages, questions = email
    text_of = {passage.id: " ".join(passage.text.split()) for passage in passages}

    assert len(questions) > 20
    assert len({question.question for question in questions}) == len(questions)
    for question in questions:
        assert 5 <= len(question.question.split()) <= 30
        found = [text_of[passage_id] for passage_id in question.relevant]
        assert not any(question.question.lower() in text.lower() for text in found)
        assert sum(len(text.split()) for text in found) >= 25


def test_real_documentation_has_unique_ids_and_small_passages(email):
    """Ids name one passage each, and passages stay near 120 words."""
    passages, questions = email

    assert len({passage.id for passage in passages}) == len(passages) > 200
    assert len({question.id for question in questions}) == len(questions)
    assert max(len(passage.text.split()) for passage in passages) <= 130


def test_samples_keep_what_the_questions_need(tmp_path):
    """A cut corpus has the sizes asked for, and every relevant passage."""
    paths = tmp_path / "passages.jsonl", tmp_path / "questions.jsonl"

    summary = build_corpus(
        *paths, max_passages=60, num_questions=10, root=standard_library() / "email"
    )

    passages, questions = map(read_lines, paths)
    ids = {passage["id"] for passage in passages}
    assert (summary.num_passages, summary.num_questions) == (60, 10)
    assert (len(ids), len(questions)) == (60, 10)
    assert all(set(question["relevant"]) <= ids for question in questions)
    assert summary.num_words == sum(len(passage["text"].split()) for passage in passages)


def test_seed_decides_the_sample(tmp_path):
    """Another seed asks other questions."""
    paths = tmp_path / "passages.jsonl", tmp_path / "questions.jsonl"
    root = standard_library() / "email"

    build_corpus(*paths, num_questions=5, seed=1, root=root)
    first = read_lines(paths[1])
    build_corpus(*paths, num_questions=5, seed=2, root=root)

    assert first != read_lines(paths[1])


def test_too_few_passages_for_the_questions_are_refused(tmp_path):
    """What can not be had is said, with both numbers."""
    with pytest.raises(PlanError, match=r"max_passages=1, but \d+ questions need"):
        build_corpus(
            tmp_path / "p", tmp_path / "q", max_passages=1, root=standard_library() / "json"
        )


def test_another_process_writes_the_same_bytes(tmp_path):
    """Neither hash seed nor process shows in the files."""
    script = (
        "import sys; from sage_dask.demo.corpus import build_corpus; "
        "from sage_dask.demo.entries import standard_library; "
        "build_corpus(sys.argv[1], sys.argv[2], max_passages=50, num_questions=5, "
        "root=standard_library() / 'email')"
    )
    written = []
    for seed in ("1", "2"):
        paths = [tmp_path / f"{name}-{seed}.jsonl" for name in ("passages", "questions")]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", script, *paths], env=environment, check=True)
        written.append([path.read_bytes() for path in paths])

    assert written[0] == written[1]
    assert all(written[0])
