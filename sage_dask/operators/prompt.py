"""Filling a prompt template with the fields of a record.

A template is text with ``{field}`` placeholders and nothing else: no format
codes, no attributes, no indices.  What a record holds goes in literally and
once, so that no row can reach beyond its own place in the prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sage_dask.errors import PlanError
from sage_dask.operators.generation.context import numbered_context
from sage_dask.operators.generation.template import Template
from sage_dask.record import Outcome, Record
from sage_dask.stage import Operator


@dataclass
class Prompt(Operator):
    """Write a prompt for each record: ``Prompt("prompt.txt")`` or ``Prompt(text="...")``.

    The file is read where the pipeline is declared; its text travels, and
    workers need not have the file.
    """

    path: str | None = None
    """Template file, UTF-8."""
    text: str | None = None
    """The template itself, instead of a file."""
    into: str | None = None
    """Field that takes the prompt; ``"prompt"``, or ``"messages"`` with ``as_messages``."""
    passages: str = "passages"
    """Field whose passages are written as numbered blocks of context."""
    max_context_chars: int = 2000
    """Most characters of context; it is cut between passages and between sentences."""
    as_messages: bool = False
    """Write a list of chat messages instead of one text."""
    system: str | None = None
    """The system message, as it stands; needs ``as_messages``."""
    _template: Template | None = field(init=False, repr=False, compare=False, default=None)

    @property
    def template(self) -> Template:
        """The parsed template, read from its file at the first look.

        Raises:
            PlanError: There is no such file, or it is no template.
        """
        if self._template is None:
            self._template = Template.parse(self._read(), origin=self.path or "Prompt(text=...)")
        return self._template

    @property
    def reads(self) -> Sequence[str]:
        """The template's placeholders."""
        return self.template.names

    @property
    def writes(self) -> Sequence[str]:
        """The prompt."""
        return (self._target,)

    def known_by(self) -> Mapping[str, object]:
        """Return the template's text, wherever it is written."""
        return {"text": self.template.text}

    @property
    def immaterial(self) -> Sequence[str]:
        """Where the text was read from."""
        return ("path",)

    @property
    def _target(self) -> str:
        return self.into or ("messages" if self.as_messages else "prompt")

    def check(self) -> None:
        """Read and parse the template, and refuse a system message that would be lost."""
        _ = self.template
        if self.system is not None and not self.as_messages:
            raise PlanError(
                "Prompt: system=... is given, but a plain prompt has no system message; "
                "set as_messages=True and Generate(prompt='messages'), or move it to the template"
            )
        if self.max_context_chars < 1:
            raise PlanError(
                f"Prompt: max_context_chars={self.max_context_chars} leaves no room; "
                "give at least 1, or leave {" + self.passages + "} out of the template"
            )

    def process_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Fill the template for each record; one that lacks a field fails alone."""
        return [self._outcome(record) for record in records]

    def _outcome(self, record: Record) -> Outcome:
        try:
            values = {name: self._shown(name, record) for name in self.template.names}
        except (LookupError, TypeError) as error:
            return error
        text = self.template.fill(values)
        return {**record, self._target: self._messages(text) if self.as_messages else text}

    def _shown(self, name: str, record: Record) -> str:
        """Return a field as the prompt shows it."""
        if name not in record:
            raise LookupError(
                f"the prompt shows {{{name}}}, but the record has no field {name!r} "
                f"(it has {', '.join(sorted(record))}); add it in an earlier stage"
            )
        if name == self.passages and not isinstance(record[name], str):
            return numbered_context(record[name], self.max_context_chars)
        return str(record[name])

    def _messages(self, text: str) -> list[dict[str, str]]:
        user = {"role": "user", "content": text}
        return [user] if self.system is None else [{"role": "system", "content": self.system}, user]

    def _read(self) -> str:
        if (self.path is None) == (self.text is None):
            raise PlanError(
                "Prompt wants exactly one of path and text; "
                "write Prompt('prompt.txt') or Prompt(text='Answer {question}')"
            )
        if self.path is None:
            return str(self.text)
        try:
            return Path(self.path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(
                f"Prompt: can not read the template {self.path!r}: {error}; "
                "give the path as seen from where the pipeline is declared"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """Take the template along: the file is the declaring machine's alone."""
        return {**self.__dict__, "_template": self.template}
