"""Cutting documents into passages that an embedding model can take in whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sage_dask.errors import PlanError
from sage_dask.record import Outcome, Record
from sage_dask.stage import Operator

_WORD = re.compile(r"\S+")


@dataclass
class Chunk(Operator):
    """Replace a document by its passages: windows of words that overlap a little.

    Each passage keeps the document's other fields and gets ``chunk``, its number
    from 1.  A document without a word has no passages and is dropped.
    """

    text: str = "text"
    """Field that holds the document."""
    words: int = 120
    """Most words per passage; 120 English ones stay below the 256 tokens of small embedders."""
    overlap: int = 20
    """Words that a passage repeats from the end of the one before."""
    into: str = "text"
    """Field that takes the passage."""

    @property
    def reads(self) -> Sequence[str]:
        """The document."""
        return (self.text,)

    @property
    def writes(self) -> Sequence[str]:
        """The passage and its number."""
        return (self.into, "chunk")

    def check(self) -> None:
        """Refuse windows that would not move forward."""
        if not 0 <= self.overlap < self.words:
            raise PlanError(
                f"Chunk: overlap={self.overlap} and words={self.words} do not fit; "
                "let overlap be 0 or more and less than words"
            )

    def process_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Cut each document; one without text fails alone."""
        return [self._passages(record) for record in records]

    def _passages(self, record: Record) -> Outcome:
        document = record.get(self.text)
        if not isinstance(document, str):
            return TypeError(
                f"field {self.text!r} holds {type(document).__name__}, not text; "
                "name the field of the document with Chunk(text=...)"
            )
        windows = word_windows(document, self.words, self.overlap)
        return [
            {**record, self.into: window, "chunk": number}
            for number, window in enumerate(windows, start=1)
        ]


def word_windows(text: str, words: int, overlap: int = 0) -> list[str]:
    """Cut a text into slices of at most ``words`` words.

    Each slice begins ``overlap`` words before the end of the previous one, and
    keeps the line breaks between its words.
    """
    spans = [match.span() for match in _WORD.finditer(text)]
    step = words - overlap
    # Past this start a window would hold nothing that the one before does not.
    starts = range(0, max(len(spans) - overlap, 1), step) if spans else ()
    windows = (spans[start : start + words] for start in starts)
    return [text[window[0][0] : window[-1][1]] for window in windows]
