"""What one word of a YAML document stands for: a text, a number, true, false or nothing.

Where readers of YAML disagree about a word, or cut it to what fits, it is
refused: a file means one thing to all of them.
"""

from __future__ import annotations

import math

from sage_dask.errors import SpecError
from sage_dask.spec.schema import BOOL, FLOAT, INT, NULL

# Beyond these, other readers of YAML and JSON round or fail, and so do files and servers.
LEAST, MOST = -(1 << 63), (1 << 63) - 1
# More digits than any number between them has; Python does not even read 4,301.
_MOST_DIGITS = 20


def scalar(tag: str, text: str, where: str) -> bool | int | float | str | None:
    """Return what a scalar of the core schema stands for.

    Args:
        tag: What the schema takes it for; a text, unless it is one of four.
        text: How it is written, quotes and escapes resolved.
        where: ``file:line:column``.

    Raises:
        SpecError: It is out of range, or not the same to every reader.
    """
    if tag == NULL:
        return None
    if tag == BOOL:
        return text.lower() == "true"
    if tag == INT:
        return _whole(text, where)
    if tag == FLOAT:
        return _number(text, where)
    return text


def _whole(text: str, where: str) -> int:
    digits = text.lstrip("+-")
    if digits.startswith("0") and len(digits) > 1:
        raise SpecError(
            f"{where}: the number {text:.30} begins with 0, which makes it another number to some "
            "readers of YAML; put it in quotes if it is a text, or leave out the 0"
        )
    if len(digits) > _MOST_DIGITS or not LEAST <= int(text) <= MOST:
        raise SpecError(
            f"{where}: the number {text:.30} takes more than 64 bits; write a smaller one, or put "
            "it in quotes if it is a text"
        )
    return int(text)


def _number(text: str, where: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise SpecError(f"{where}: the number {text:.30} is out of range; write a smaller one")
    return value
