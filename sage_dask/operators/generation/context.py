"""Writing retrieved passages as the numbered context of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sage_dask.operators.generation.sentences import sentence_spans

_SEPARATOR = "\n\n"


def numbered_context(passages: Sequence[Any], max_chars: int) -> str:
    """Write passages as blocks ``[1] title: text``, best first.

    Args:
        passages: Mappings with ``text`` and, if they have one, ``title`` or
            ``id``; plain strings will do.
        max_chars: Most characters of the whole.  The first passage that does
            not fit is cut after a sentence and ends the context; only the very
            first may be cut inside a sentence, rather than say nothing.

    Raises:
        TypeError: A passage is neither text nor a mapping with ``text``.
    """
    blocks: list[str] = []
    room = max_chars
    for number, passage in enumerate(passages, start=1):
        text = passage_text(passage)
        if not text:
            continue
        head = f"[{number}] {_label(passage)}"
        kept = _cut(text, room - len(head))
        if not kept and not blocks:
            return (head + text)[:max_chars].rstrip()
        if not kept:
            break
        blocks.append(head + kept)
        if len(kept) < len(text):
            break
        room -= len(blocks[-1]) + len(_SEPARATOR)
    return _SEPARATOR.join(blocks)


def passage_text(passage: Any) -> str:
    """Return the text of a passage, without outer space.

    Raises:
        TypeError: It is neither text nor a mapping with ``text``.
    """
    text = passage.get("text") if isinstance(passage, Mapping) else passage
    if not isinstance(text, str):
        raise TypeError(
            f"a passage is {type(passage).__name__} without text; passages are mappings "
            "with a 'text', as Retrieve writes them, or plain strings"
        )
    return text.strip()


def _label(passage: Any) -> str:
    """Return what stands before the text of a passage."""
    name = isinstance(passage, Mapping) and (passage.get("title") or passage.get("id"))
    return f"{name}: " if name else ""


def _cut(text: str, room: int) -> str:
    """Return the whole text if there is room, else its first sentences, else nothing."""
    if len(text) <= room:
        return text
    ends = [end for _, end in sentence_spans(text) if end <= room]
    return text[: ends[-1]] if ends else ""
