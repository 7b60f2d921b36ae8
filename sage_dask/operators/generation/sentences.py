"""Splitting technical prose into sentences.

A sentence is a literal slice of its text, never a rewritten one, so that a
quotation can be checked against its source.  The rules know what documentation
is made of: abbreviations, dotted names, version numbers, bullets, examples.
"""

from __future__ import annotations

import re

# Borders that need no full stop: a blank line, or a line that opens a list item or an example.
_BLOCK_BORDER = re.compile(
    r"\n[ \t]*(?:\n\s*)?(?=(?:[-*+•]|\d{1,2}[.)]|>>>)[ \t])"  # list item or example
    r"|\n[ \t]*\n\s*"  # blank line
)
# A terminator with the quotes and brackets that close behind it, and the space that follows.
_TERMINATOR = re.compile(r"[.!?]+[\"'\u201d\u2019)\]`]*(?=\s)")
_LAST_TOKEN = re.compile(r"\S+\Z")
# Words whose full stop says nothing of the sentence, in lower case without the last stop.
_ABBREVIATIONS = re.compile(
    r"(?:e\.g|i\.e|cf|vs|viz|resp|approx|incl|esp|ca|fig|eq|al|mr|mrs|ms|dr|prof)\Z"
)
# A new sentence may begin in lower case only with what looks like code.
_CODE_START = re.compile(r"[a-z]\w*(?:[_(]|\.\w|::)|[a-z]+[A-Z]")


def sentences(text: str) -> list[str]:
    """Return the sentences of a text in order, each a slice of it without outer space."""
    return [text[start:end] for start, end in sentence_spans(text)]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return where each sentence begins and ends in the text.

    Ends are exclusive, spans do not overlap, and what lies between them is
    white space only.
    """
    spans: list[tuple[int, int]] = []
    start = 0
    for border in (*_borders(text), len(text)):
        piece = text[start:border]
        stripped = piece.strip()
        if stripped:
            begin = start + len(piece) - len(piece.lstrip())
            spans.append((begin, begin + len(stripped)))
        start = border
    return spans


def _borders(text: str) -> list[int]:
    """Return the offsets at which one sentence ends and another begins, in order."""
    blocks = {match.start() for match in _BLOCK_BORDER.finditer(text)}
    stops = {match.end() for match in _TERMINATOR.finditer(text) if _ends_sentence(text, match)}
    return sorted(blocks | stops)


def _ends_sentence(text: str, stop: re.Match[str]) -> bool:
    """Return whether a terminator ends its sentence, by the words on both sides."""
    # A window keeps this linear in the length of the text; no token of prose is longer.
    before = _LAST_TOKEN.search(text[max(0, stop.start() - 40) : stop.start()])
    if before is None:
        return False  # A lone "..." is a continuation prompt or an omission.
    token = before.group().lstrip("([{\"'`*").lower()
    if _ABBREVIATIONS.match(token) or (stop.group() == "." and _is_label(text, before, stop)):
        return False
    after = text[stop.end() : stop.end() + 80].lstrip()
    return not after[:1].islower() or _CODE_START.match(after) is not None


def _is_label(text: str, token: re.Match[str], stop: re.Match[str]) -> bool:
    """Return whether the token is an initial ("J. Smith") or the number of a list item ("2.")."""
    word = token.group()
    line_start = text.rfind("\n", 0, stop.start()) + 1
    opens_line = text[line_start : stop.start()].strip() == word
    return (len(word) == 1 and word.isupper() and word != "I") or (opens_line and word.isdigit())
