"""Words that are not ours, made fit to be printed.

Names, ids and messages are somebody else's words: they may hold line breaks, and
what a terminal takes for orders.  Nothing of that reaches a screen or a log.
"""

from __future__ import annotations

import re

# A colour, a move of the cursor, a window's title: whole, so that nothing of it is left as text.
_ORDER = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)


def plain(text: str) -> str:
    r"""Return somebody's words on one line, and without orders to a terminal.

    What no terminal can show becomes a replacement character.

    >>> plain("no\r\nroute to \x1b[31mhost\x1b[0m \x07!")
    'no route to host \ufffd!'
    """
    if not text.isprintable():
        text = _ORDER.sub("", text)
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
