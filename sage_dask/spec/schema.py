"""Which part of YAML a specification may use, for reading and for writing.

Plain scalars follow YAML 1.2's core schema, so ``on`` and ``1:30`` are texts and
``1e-3`` is a number.  Tags, anchors, aliases and deep nesting are refused as
soon as they are met.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml

# The format itself needs six levels; the rest is for items and parameters.
MAX_DEPTH = 32

NULL, BOOL, INT, FLOAT = (f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float"))

# YAML 1.2 core schema, less the spellings for infinity, hexadecimal and octal numbers: tag,
# pattern, and the characters that such a scalar may begin with.
_CORE_SCHEMA = (
    (NULL, re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    (BOOL, re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    (INT, re.compile(r"[-+]?[0-9]+\Z"), list("-+0123456789")),
    (
        FLOAT,
        re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z"),
        list("-+.0123456789"),
    ),
)


class Loader(yaml.SafeLoader):
    """Composes nodes, and refuses what a specification has no use for as soon as it is met."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
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
Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _CORE_SCHEMA:
    Loader.add_implicit_resolver(_tag, _pattern, _first)


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
