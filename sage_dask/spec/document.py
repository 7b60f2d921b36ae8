"""YAML text as plain values that know where they stand.

A specification is data and nothing else: one document of bounded size, whose
keys are texts that occur once.  Whatever is refused is refused as
``file:line:column``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from sage_dask.errors import SpecError
from sage_dask.spec.scalars import scalar
from sage_dask.spec.schema import Loader

# Larger than any hand-written pipeline; PyYAML takes 5 to 20 s for this much.
MAX_BYTES = 1 << 20

_KINDS = {type(None): "null", list: "a list", dict: "a mapping"}
_SHOWN_CHARS = 40
# YAML 1.1 puts another mapping's entries in the place of this key; YAML 1.2 does not know it.
_MERGE = "<<"


@dataclass(frozen=True, slots=True)
class Marked:
    """A value of a YAML document, and where it stands."""

    value: Any
    """None, bool, int, float, str, ``list[Marked]`` or ``dict[str, Marked]``."""
    where: str
    """``file:line:column`` of its first character."""
    key_where: str = ""
    """The same for its key, where it is a value of a mapping."""
    spelling: str = ""
    """How a number, a boolean or null is written in the document."""

    def fault(self, what: str) -> SpecError:
        """Return what to raise for a fault of this value."""
        return SpecError(f"{self.where}: {what}")

    def key_fault(self, what: str) -> SpecError:
        """Return what to raise for a fault of this value's key."""
        return SpecError(f"{self.key_where or self.where}: {what}")

    def mapping(self, what: str) -> Mapping[str, Marked]:
        """Return the values by key, or raise ``SpecError`` where ``what`` is no mapping."""
        if not isinstance(self.value, dict):
            raise self.fault(f"{what} is {self.shown}, and a mapping is wanted, such as {{k: 10}}")
        return self.value

    def items(self, what: str) -> list[Marked]:
        """Return the items, or raise ``SpecError`` where ``what`` is no list."""
        if not isinstance(self.value, list):
            raise self.fault(f"{what} is {self.shown}, and a list is wanted: one '- ' per item")
        return self.value

    @property
    def inside(self) -> Collection[Marked]:
        """The items of a list, the values of a mapping; nothing of anything else."""
        if isinstance(self.value, dict):
            return self.value.values()
        return self.value if isinstance(self.value, list) else ()

    @property
    def in_quotes(self) -> str:
        """What to add to a message where a text was wanted and YAML took it for something else."""
        return f"; put it in quotes: {_cut(repr(self.spelling))}" if self.spelling else ""

    @property
    def plain(self) -> Any:
        """The value without its marks."""
        if isinstance(self.value, dict):
            return {key: item.plain for key, item in self.value.items()}
        if isinstance(self.value, list):
            return [item.plain for item in self.value]
        return self.value

    @property
    def shown(self) -> str:
        """The value as a message shows it."""
        if isinstance(self.value, bool):
            return f"the boolean {str(self.value).lower()}"
        if type(self.value) in _KINDS:
            return _KINDS[type(self.value)]
        if isinstance(self.value, str):
            return f"the text {_cut(repr(self.value))}"
        return f"the number {_cut(self.spelling or repr(self.value))}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def parse_yaml(text: str, origin: str) -> Marked:
    """Return the one value that a YAML document holds.

    Args:
        text: The document.
        origin: What messages call it: the file's path as the user gave it.

    Raises:
        SpecError: It is no YAML, or uses more of YAML than a specification may.
    """
    num_bytes = len(text.encode(errors="surrogatepass"))
    if num_bytes > MAX_BYTES:
        raise SpecError(f"{origin}: {oversize(num_bytes)}")
    node = _composed(text, origin)
    if node is None:
        raise SpecError(f"{origin}:1:1: the document is empty; it begins with 'pipeline: <name>'")
    return _marked(node, origin)


def oversize(num_bytes: int) -> str:
    """Return what to say of a document over the limit."""
    return (
        f"{num_bytes:,} bytes are more than a specification may have ({MAX_BYTES:,}); "
        "keep data in files and give their paths"
    )


def _composed(text: str, origin: str) -> yaml.Node | None:
    """Parse a text; whatever PyYAML raises becomes a ``SpecError``."""
    try:
        loader = Loader(text)
    except yaml.reader.ReaderError as error:
        raise _unprintable(text, origin, error) from error
    try:
        node: yaml.Node | None = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise SpecError(f"{_place(origin, error)}: {_reason(error)}") from error
    except (ValueError, OverflowError) as error:
        # An escape such as "\\UFFFFFFFF" names no character; PyYAML passes it to chr().
        raise SpecError(
            f"{_where(origin, loader.get_mark())}: an escape names no character ({error}); "
            "correct it, or use single quotes"
        ) from error
    return node


def _unprintable(text: str, origin: str, error: yaml.reader.ReaderError) -> SpecError:
    line = text.count("\n", 0, error.position) + 1
    column = error.position - text.rfind("\n", 0, error.position)
    return SpecError(
        f"{origin}:{line}:{column}: character U+{ord(text[error.position]):04X} may not stand "
        'in YAML; write it as an escape within double quotes, such as "\\x07"'
    )


def _reason(error: yaml.MarkedYAMLError) -> str:
    if error.context == "expected a single document in the stream":
        return "a second document begins here; a file holds one pipeline"
    return ", ".join(part for part in (error.problem, error.context) if part)


def _place(origin: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return origin if mark is None else _where(origin, mark)


def _where(origin: str, mark: yaml.Mark) -> str:
    return f"{origin}:{mark.line + 1}:{mark.column + 1}"


def _marked(node: yaml.Node, origin: str, key_where: str = "") -> Marked:
    where = _where(origin, node.start_mark)
    spelling = ""
    value: Any
    if isinstance(node, yaml.MappingNode):
        value = dict(_entries(node, origin))
    elif isinstance(node, yaml.SequenceNode):
        value = [_marked(item, origin) for item in node.value]
    else:
        value = scalar(node.tag, node.value, where)
        spelling = "" if isinstance(value, str) else node.value
    return Marked(value, where, key_where, spelling)


def _entries(node: yaml.MappingNode, origin: str) -> Iterator[tuple[str, Marked]]:
    first: dict[str, str] = {}
    for key_node, value_node in node.value:
        key = _marked(key_node, origin)
        if not isinstance(key.value, str):
            raise key.fault(f"a key is {key.shown}, and a text is wanted{key.in_quotes}")
        if key.value == _MERGE and key_node.style is None:
            raise key.fault(
                f"merge keys ({_MERGE}) are not allowed; write out what they would bring in"
            )
        if key.value in first:
            raise key.fault(
                f"key {key.value!r} stands here for the second time (first at "
                f"{first[key.value]}); remove one of them"
            )
        first[key.value] = key.where
        yield key.value, _marked(value_node, origin, key.where)
