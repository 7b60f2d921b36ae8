"""YAML text as plain values that know where they stand.

A specification is data and nothing else: one document without tags, anchors or
aliases, of bounded size and depth, whose keys are texts that occur once.  Plain
scalars follow YAML 1.2's core schema, so ``on`` and ``1:30`` are texts and
``1e-3`` is a number.  Whatever is refused is refused as ``file:line:column``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import yaml

from sage_dask.errors import SpecError

# Larger than any hand-written pipeline; PyYAML takes 5 to 20 s for this much.
MAX_BYTES = 1 << 20
# The format itself needs six levels; the rest is for items and parameters.
MAX_DEPTH = 32

_NULL, _BOOL, _INT, _FLOAT = (
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float")
)

# YAML 1.2 core schema, less the spellings for infinity, hexadecimal and octal numbers: tag,
# pattern, and the characters that such a scalar may begin with.
_CORE_SCHEMA = (
    (_NULL, re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    (_BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    (_INT, re.compile(r"[-+]?[0-9]+\Z"), list("-+0123456789")),
    (
        _FLOAT,
        re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
        list("-+.0123456789"),
    ),
)

_KINDS = {type(None): "null", bool: "a boolean", list: "a list", dict: "a mapping"}
_SHOWN_CHARS = 40


@dataclass(frozen=True, slots=True)
class Marked:
    """A value of a YAML document, and where it stands."""

    value: Any
    """None, bool, int, float, str, ``list[Marked]`` or ``dict[str, Marked]``."""
    where: str
    """``file:line:column`` of its first character."""
    key_where: str = ""
    """The same for its key, where it is a value of a mapping."""

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
        kind = _KINDS.get(type(self.value))
        if isinstance(self.value, bool):
            return f"the boolean {str(self.value).lower()}"
        if kind is not None:
            return kind
        text = repr(self.value)
        text = text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."
        return f"the {'text' if isinstance(self.value, str) else 'number'} {text}"


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
    try:
        loader = _Loader(text, origin)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise SpecError(f"{_place(origin, error)}: {_reason(error)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        raise SpecError(
            f"{origin}:{line}:{column}: character U+{ord(text[error.position]):04X} may not stand "
            'in YAML; write it as an escape within double quotes, such as "\\x07"'
        ) from error
    except (ValueError, OverflowError) as error:
        # An escape such as "\UFFFFFFFF" names no character; PyYAML passes it to chr().
        mark = loader.get_mark()
        raise SpecError(
            f"{origin}:{mark.line + 1}:{mark.column + 1}: an escape names no character ({error}); "
            "correct it, or use single quotes"
        ) from error
    if node is None:
        raise SpecError(f"{origin}:1:1: the document is empty; it begins with 'pipeline: <name>'")
    return _marked(node, origin)


def oversize(num_bytes: int) -> str:
    """Return what to say of a document over the limit."""
    return (
        f"{num_bytes:,} bytes are more than a specification may have ({MAX_BYTES:,}); "
        "keep data in files and give their paths"
    )


class _Loader(yaml.SafeLoader):
    """Composes nodes, and refuses what a specification has no use for as soon as it is met."""

    def __init__(self, text: str, origin: str) -> None:
        super().__init__(text)
        self._origin = origin
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose the next node, one level deeper than its parent."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            self._refuse(event, "anchors (&) and aliases (*) are not allowed; write the value out")
        if event.tag is not None:
            self._refuse(event, f"tags are not allowed, found {event.tag!r}; leave it out")
        if self._depth >= MAX_DEPTH:
            self._refuse(event, f"nested more than {MAX_DEPTH} levels deep; flatten it")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _refuse(self, event: Any, what: str) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=what, problem_mark=event.start_mark)


# In place of YAML 1.1's, which the base class has.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE_SCHEMA:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)


class Dumper(yaml.SafeDumper):
    """Writes plain values so that readers of YAML 1.1 and of 1.2 take them for the same."""


for _tag, _pattern, _first in _CORE_SCHEMA:
    Dumper.add_implicit_resolver(_tag, _pattern, _first)


# PyYAML counts these as line breaks when it reads, but writes them bare when it may choose.
_BREAKS = re.compile("[\x85\u2028\u2029\ufeff]")


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _BREAKS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, _represent_text)


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
    value: Any
    if isinstance(node, yaml.MappingNode):
        value = dict(_entries(node, origin))
    elif isinstance(node, yaml.SequenceNode):
        value = [_marked(item, origin) for item in node.value]
    else:
        value = _scalar(node, where)
    return Marked(value, where, key_where)


def _entries(node: yaml.MappingNode, origin: str) -> Iterator[tuple[str, Marked]]:
    first: dict[str, str] = {}
    for key_node, value_node in node.value:
        key = _marked(key_node, origin)
        if not isinstance(key.value, str):
            raise key.fault(f"a key is {key.shown}, and a text is wanted; put it in quotes")
        if key.value in first:
            raise key.fault(
                f"key {key.value!r} stands here for the second time (first at "
                f"{first[key.value]}); remove one of them"
            )
        first[key.value] = key.where
        yield key.value, _marked(value_node, origin, key.where)


def _scalar(node: yaml.Node, where: str) -> Any:
    text: str = node.value
    try:
        value = _SCALARS.get(node.tag, str)(text)
    except ValueError as error:
        # Python reads no integer of more than 4,300 digits.
        raise SpecError(f"{where}: a number of {len(text):,} digits; write fewer") from error
    if isinstance(value, float) and math.isinf(value):
        raise SpecError(f"{where}: the number {text} is out of range; write a smaller one")
    return value


_SCALARS: dict[str, Callable[[str], Any]] = {
    _NULL: lambda _: None,
    _BOOL: lambda text: text.lower() == "true",
    _INT: int,
    _FLOAT: float,
}
