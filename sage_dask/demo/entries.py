"""The documentation that Python carries with it, read without importing any of it.

Docstrings of the standard library and the topics of its language reference,
one entry each, in an order that depends on nothing but the Python version.
"""

from __future__ import annotations

import ast
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

_Definition: TypeAlias = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef

# Tests, programs that come along, what is on its way out, and other people's packages.
_SKIPPED_FOLDERS = frozenset(
    {"test", "tests", "idlelib", "turtledemo", "ensurepip", "lib2to3", "distutils", "encodings"}
    | {"pydoc_data", "site-packages", "dist-packages", "__pycache__"}
)
# Fewer say no more than the name does.
_FEWEST_WORDS = 4
_TOPICS = Path("pydoc_data/topics.py")
_LONGEST_SIGNATURE = 100
_OWN_LINE = re.compile(r"(?:[-*+•]|\d{1,2}[.)]|>>>|\.\.\.)\s")
_RULE_LINE = re.compile(r"[-=+*~^|_ ]{3,}")


@dataclass(frozen=True, slots=True)
class Entry:
    """One documented thing."""

    name: str
    """Its qualified name, such as ``"json.dumps"``, or the topic's."""
    signature: str
    """Its parameters in parentheses; empty for modules, classes and topics."""
    source: str
    """Its file, relative to the library's root."""
    text: str
    """Its documentation, as ``clean`` leaves it."""
    is_docstring: bool = True


def standard_library() -> Path:
    """Return the folder of the running Python's standard library."""
    return Path(sysconfig.get_paths()["stdlib"])


def read_entries(root: Path) -> list[Entry]:
    """Return every documented entry below a library's root; each name comes once.

    A definition whose name was seen before (a setter, a fallback) is left out.
    """
    entries: dict[str, Entry] = {}
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).parts):
        relative = path.relative_to(root)
        if _SKIPPED_FOLDERS.isdisjoint(relative.parts):
            for entry in _docstrings(path, relative):
                entries.setdefault(entry.name, entry)
    for entry in _topics(root):
        entries.setdefault(entry.name, entry)
    return list(entries.values())


def clean(text: str) -> str:
    """Collapse white space: a line per paragraph, list item and example line.

    Blank lines stay between paragraphs, where sentences end without a full stop.
    """
    pieces: list[str] = []
    separator = ""
    for raw in text.splitlines():
        line = " ".join(raw.split())
        if not line or _RULE_LINE.fullmatch(line):
            separator = "\n\n"
            continue
        if separator == " " and _OWN_LINE.match(line):
            separator = "\n"
        pieces += [separator if pieces else "", line]
        separator = " "
    return "".join(pieces)


def _docstrings(path: Path, relative: Path) -> Iterator[Entry]:
    """Yield the entries of one file; one that does not parse has none."""
    module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # Some installations carry templates and files of other versions.
    yield from _documented(tree, module, "", relative.as_posix())
    yield from _members(tree, module, relative.as_posix())


def _members(node: ast.Module | _Definition, prefix: str, source: str) -> Iterator[Entry]:
    """Yield the public classes, functions and methods below a node, outside in."""
    for child in node.body:
        if isinstance(child, _Definition) and not _is_private(child.name):
            name = f"{prefix}.{child.name}"
            yield from _documented(child, name, _signature(child), source)
            if isinstance(child, ast.ClassDef):
                yield from _members(child, name, source)


def _documented(
    node: ast.Module | _Definition, name: str, signature: str, source: str
) -> Iterator[Entry]:
    text = clean(ast.get_docstring(node) or "")
    if len(text.split()) >= _FEWEST_WORDS:
        yield Entry(name, signature, source, text)


def _signature(node: _Definition) -> str:
    """Return the parameters as they are written, cut where they are very long."""
    if isinstance(node, ast.ClassDef):
        return ""
    shown = ast.unparse(node.args)
    return f"({shown})" if len(shown) <= _LONGEST_SIGNATURE else f"({shown[:_LONGEST_SIGNATURE]}…)"


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _topics(root: Path) -> Iterator[Entry]:
    """Yield the language reference that ``help()`` shows: a file with one dict of texts."""
    path = root / _TOPICS
    if not path.exists():
        return  # Some distributions package it separately.
    for statement in ast.parse(path.read_bytes()).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            topics: dict[str, str] = ast.literal_eval(statement.value)
            for name, text in sorted(topics.items()):
                yield Entry(name, "", _TOPICS.as_posix(), clean(text), is_docstring=False)
