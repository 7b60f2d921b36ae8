"""Text with named placeholders, which never evaluates what it is filled with."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sage_dask.errors import PlanError

_NAME = re.compile(r"[^\W\d][\w-]*\Z")


class _Piece(NamedTuple):
    literal: str
    name: str | None
    """The placeholder that follows the literal text."""


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: ``{name}`` is a placeholder, ``{{`` and ``}}`` are braces."""

    pieces: tuple[_Piece, ...]

    @classmethod
    def parse(cls, text: str, *, origin: str) -> Template:
        """Parse a template.

        Args:
            text: The template.
            origin: Where it comes from, for messages.

        Raises:
            PlanError: A brace stands alone, or a placeholder is more than a name.
        """
        try:
            # The parser of str.format only takes the text apart; it looks nothing up.
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            raise PlanError(
                f"template {origin!r}: {error}; write {{{{ and }}}} for braces that stay"
            ) from error
        for _, name, spec, conversion in parsed:
            if name is not None and (spec or conversion or not _NAME.match(name)):
                raise PlanError(
                    f"template {origin!r}: the placeholder {{{name}}} is not just a field name; "
                    "write {field} for a field's value, and {{ and }} for braces that stay"
                )
        return cls(tuple(_Piece(literal, name) for literal, name, _, _ in parsed))

    @property
    def names(self) -> tuple[str, ...]:
        """The placeholders in the order of their first place."""
        return tuple(dict.fromkeys(piece.name for piece in self.pieces if piece.name is not None))

    @property
    def text(self) -> str:
        """The text that this is parsed from."""
        return "".join(
            piece.literal.replace("{", "{{").replace("}", "}}")
            + ("" if piece.name is None else f"{{{piece.name}}}")
            for piece in self.pieces
        )

    def fill(self, values: Mapping[str, str]) -> str:
        """Return the text with each placeholder replaced, once and literally."""
        return "".join(
            piece.literal + (values[piece.name] if piece.name is not None else "")
            for piece in self.pieces
        )
