"""Write passages and questions of the documentation that this Python carries with it."""

from __future__ import annotations

import argparse

from sage_dask.demo.corpus import build_corpus


def main() -> None:
    """Write ``passages.jsonl`` and ``questions.jsonl`` to the current folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passages", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--questions", type=int, default=100, help="default: %(default)s")
    given = parser.parse_args()
    summary = build_corpus(
        "passages.jsonl",
        "questions.jsonl",
        max_passages=given.passages,
        num_questions=given.questions,
    )
    print(f"{summary.num_passages:,} passages and {summary.num_questions:,} questions")


if __name__ == "__main__":
    main()
