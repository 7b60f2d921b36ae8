"""A run folder is data: what reads it never runs what stands in it.

Whoever can write to a run folder must not thereby be able to run code where the run is resumed
or looked at.  The rule is read off the source: modules that read run folders, and all that these
import, have nothing at hand that makes code of bytes.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# What makes objects of any class, and so calls any function, from bytes.
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
LOADERS = {"load", "loads", "Unpickler", "open"}
RUNNERS = {"eval", "exec", "compile", "__import__"}

PACKAGE = Path(__file__).parents[1] / "sage_dask"
MODULES = {
    ".".join(("sage_dask", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): file
    for file in PACKAGE.rglob("*.py")
}
# Where bytes of a run folder become values.
JOURNAL = sorted(name for name in MODULES if f"{name}.".startswith("sage_dask.journal."))
READERS = [*JOURNAL, "sage_dask.cli.report", "sage_dask.events", "sage_dask.event_file"]


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what a module imports, wherever in it: the full name, and what it is called there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{node.module}.{alias.name}", alias.asname or alias.name


def is_pickler(name: str) -> bool:
    """Tell whether an imported name is, or belongs to, a module that unpickles."""
    return not PICKLERS.isdisjoint(name.split("."))


def runs_code(tree: ast.AST) -> set[str]:
    """Return what would make code, or any object, of what was read."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in RUNNERS:
            found.add(node.id)
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            found.add(node.arg)
        if isinstance(node, ast.Attribute) and node.attr in ("read_pickle", "import_module"):
            found.add(node.attr)
    return found


def unpickles(tree: ast.AST) -> set[str]:
    """Return the ways in which a module reads pickles; writing them is no matter here."""
    names = list(imported(tree))
    picklers = {called for name, called in names if is_pickler(name)}
    found = {name for name, _ in names if is_pickler(name) and name.split(".")[-1] in LOADERS}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in LOADERS:
            owner = node.value
            if isinstance(owner, ast.Name) and owner.id in picklers:
                found.add(f"{owner.id}.{node.attr}")
    return found


def tree_of(module: str) -> ast.AST:
    """Return a module's source as a tree."""
    return ast.parse(MODULES[module].read_text("utf-8"))


def reachable(module: str) -> set[str]:
    """Return a module and all of the package that it imports, directly or not."""
    seen, pending = set(), [module]
    while pending:
        name = pending.pop()
        # ``from a.b import c`` names a module or something in one.
        name = name if name in MODULES else name.rpartition(".")[0]
        if name in MODULES and name not in seen:
            seen.add(name)
            pending += [full for full, _ in imported(tree_of(name))]
    return seen


@pytest.mark.parametrize("reader", READERS)
def test_readers_of_run_folders_have_no_pickle_at_hand(reader):
    """Neither they nor anything of the package that they import knows a module that unpickles."""
    for module in sorted(reachable(reader)):
        tree = tree_of(module)
        picklers = {name for name, _ in imported(tree) if is_pickler(name)}
        assert not picklers, f"{reader} reaches {module}, which imports {picklers}"


@pytest.mark.parametrize("module", JOURNAL)
def test_the_journal_makes_no_code_of_what_it_reads(module):
    """No evaluation, and no import of a name that stood in a file."""
    assert runs_code(tree_of(module)) == set()


def test_who_uses_a_journal_unpickles_nothing():
    """Modules that are handed a journal's rows may measure pickles, but read none."""
    users = [
        module
        for module in MODULES
        if any(name.startswith("sage_dask.journal.") for name, _ in imported(tree_of(module)))
    ]

    assert {module: found for module in users if (found := unpickles(tree_of(module)))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle\npickle.loads(b'')",
        "import pickle as plain\nread = plain.Unpickler",
        "def f(data):\n    from cloudpickle import loads\n    return loads(data)",
        "from distributed.protocol import pickle\npickle.loads(b'')",
        "import marshal\nmarshal.load",
        "from shelve import open",
    ],
)
def test_the_rule_sees_what_unpickles(source):
    """A pickle that is read is found under other names and inside functions, too."""
    assert unpickles(ast.parse(source))
    assert any(is_pickler(name) for name, _ in imported(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "run = exec",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import importlib\nimportlib.import_module(name)",
        "__import__(name)",
    ],
)
def test_the_rule_sees_what_runs_code(source):
    """Evaluation is found even where it is only handed on."""
    assert runs_code(ast.parse(source))


def test_the_rule_lets_data_pass():
    """Writing a pickle, JSON and patterns are none of its business."""
    source = "import json, pickle, re\njson.loads('1')\npickle.dumps(1)\nre.compile('a')"

    assert unpickles(ast.parse(source)) == runs_code(ast.parse(source)) == set()
    assert "sage_dask.errors" in reachable("sage_dask.event_file")
