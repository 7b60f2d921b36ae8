"""Passages and honest questions, made of the documentation that Python carries with it.

A question is the first sentence of a docstring, and its answer the passage made
of the rest: the sentence itself is taken out of the corpus, so that finding the
passage means understanding it.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sage_dask.demo.entries import Entry, read_entries, standard_library
from sage_dask.errors import PlanError
from sage_dask.operators.generation.sentences import sentence_spans
from sage_dask.operators.text import word_windows

# Windows that small embedding models take in whole, signature included.
_WORDS, _OVERLAP = 110, 20
# Too short says nothing, too long is no question.
_QUESTION_WORDS = range(5, 31)
# Far more characters than the longest question has: a bound for texts without a full stop.
_LONGEST_OPENING = 1000
# What must be left for the passage to be recognised by.
_FEWEST_REST_WORDS = 25
# An entry of many passages would be found by chance.
_MOST_RELEVANT = 3
# A question is prose; these belong to code, tables and markup.
_NOT_PROSE = re.compile(r">>>|::|https?:|[|<>{}=\[\]]|\.\. |@|\$")
# Sentences that point at the thing they stand beside mean nothing away from it.
_POINTING = ("This ", "These ", "See ", "Same as ", "Like ", "It ", "As ", "Alias ")
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True, slots=True)
class Passage:
    """One piece of one entry."""

    id: str
    """The entry's name, with ``#2``, ``#3``, ... for further pieces."""
    title: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Question:
    """The documented behaviour of one entry, asked for."""

    id: str
    question: str
    relevant: tuple[str, ...]
    """Ids of the passages that hold the rest of its docstring."""


@dataclass(frozen=True, slots=True)
class CorpusSummary:
    """What was written."""

    num_passages: int
    num_questions: int
    num_words: int
    """Words of all passages."""


def build_corpus(
    passages_path: str | Path,
    questions_path: str | Path,
    *,
    max_passages: int | None = None,
    num_questions: int | None = None,
    seed: int = 0,
    root: Path | None = None,
) -> CorpusSummary:
    """Write the corpus of this Python: the same bytes for the same version and arguments.

    Args:
        passages_path: JSON lines of ``id``, ``title``, ``source``, ``text``.
        questions_path: JSON lines of ``id``, ``question``, ``relevant``.
        max_passages: Passages wanted; those that a question needs, and a sample of the others.
        num_questions: Questions wanted, sampled; None for all there are.
        seed: Decides both samples.
        root: Folder of the library to read; None for the running Python's.

    Raises:
        PlanError: The questions alone need more than ``max_passages``.
    """
    passages, questions = make_corpus(read_entries(root or standard_library()))
    questions = _sample(questions, num_questions, seed)
    passages = _cut_to(passages, questions, max_passages, seed)
    _write_lines(Path(passages_path), map(asdict, passages))
    _write_lines(Path(questions_path), map(asdict, questions))
    num_words = sum(len(passage.text.split()) for passage in passages)
    return CorpusSummary(len(passages), len(questions), num_words)


def make_corpus(entries: Sequence[Entry]) -> tuple[list[Passage], list[Question]]:
    """Return the passages of all entries, and the questions that some of them answer."""
    openings = [_opening(entry) for entry in entries]
    times_seen = Counter(question for question, _ in openings)
    passages: list[Passage] = []
    questions: list[Question] = []
    for entry, (question, rest) in zip(entries, openings, strict=True):
        pieces = _pieces(entry, rest)
        # A sentence that opens several docstrings has several right answers, most not marked.
        if (
            times_seen[question] == 1
            and len(pieces) <= _MOST_RELEVANT
            and _is_question(entry, question, rest)
        ):
            relevant = tuple(piece.id for piece in pieces)
            questions.append(Question(f"q-{entry.name}", question, relevant))
        else:
            pieces = _pieces(entry, entry.text)
        passages += pieces
    return passages, questions


def _opening(entry: Entry) -> tuple[str, str]:
    """Return the first sentence of an entry, on one line, and what follows it."""
    spans = sentence_spans(entry.text[:_LONGEST_OPENING])
    end = spans[0][1] if spans else 0
    return " ".join(entry.text[:end].split()), entry.text[end:].strip()


def _is_question(entry: Entry, question: str, rest: str) -> bool:
    """Return whether the opening is prose of a fit length, and enough is left without it."""
    return (
        entry.is_docstring
        and len(question.split()) in _QUESTION_WORDS
        and len(_WORD.findall(question)) >= _QUESTION_WORDS.start
        and question[0].isupper()
        and not question.startswith(_POINTING)
        and question.endswith((".", "?"))
        and not _NOT_PROSE.search(question)
        and len(_WORD.findall(rest)) >= _FEWEST_REST_WORDS
        and question.rstrip(".?").lower() not in " ".join(rest.split()).lower()
    )


def _pieces(entry: Entry, text: str) -> list[Passage]:
    """Cut an entry into passages, each headed by the entry's name and signature."""
    head = f"{entry.name}{entry.signature}" if entry.is_docstring else f"Topic {entry.name}"
    return [
        Passage(
            id=entry.name if number == 1 else f"{entry.name}#{number}",
            title=entry.name,
            source=entry.source,
            text=f"{head}\n\n{window}",
        )
        for number, window in enumerate(word_windows(text, _WORDS, _OVERLAP), start=1)
    ]


def _sample(questions: Sequence[Question], wanted: int | None, seed: int) -> list[Question]:
    """Return the wanted number of questions in their order, or all if there are no more."""
    if wanted is None or wanted >= len(questions):
        return list(questions)
    chosen = random.Random(seed).sample(range(len(questions)), wanted)  # noqa: S311  # no secret
    return [questions[place] for place in sorted(chosen)]


def _cut_to(
    passages: Sequence[Passage], questions: Sequence[Question], wanted: int | None, seed: int
) -> list[Passage]:
    """Return what the questions need, filled up with a sample of the others, in order."""
    if wanted is None or wanted >= len(passages):
        return list(passages)
    needed = {passage_id for question in questions for passage_id in question.relevant}
    if len(needed) > wanted:
        raise PlanError(
            f"max_passages={wanted}, but {len(questions)} questions need {len(needed)}; "
            "ask for more passages, or for fewer questions with num_questions=..."
        )
    others = [place for place, passage in enumerate(passages) if passage.id not in needed]
    rng = random.Random(seed)  # noqa: S311  # a sample of documentation, no secret
    chosen = set(rng.sample(others, wanted - len(needed)))
    return [p for place, p in enumerate(passages) if place in chosen or p.id in needed]


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines; the file appears whole or not at all."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text("".join(lines), encoding="utf-8", newline="\n")
    os.replace(unfinished, path)  # noqa: PTH105  # the pathlib spelling says less
