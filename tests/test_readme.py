"""What README.md promises is there: code, commands, files, targets, extras."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cli import main
from sage_dask.operators import WriteIndex
from sage_dask.spec import reads

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("examples/*/README.md"))]


def execute(code: str, **names: Any) -> dict[str, Any]:
    """Run a block as a module that is imported, and return what it defines."""
    namespace = {"__name__": "readme", **names}
    exec(compile(code, "README.md", "exec"), namespace)
    return namespace


def make_index(folder: str) -> None:
    """Write an index of two made-up passages, as an embedding model would have it."""
    rows = [
        {"id": f"p-{i}", "text": "a passage", "embedding": vector, "tokens": vector[None]}
        for i, vector in enumerate(np.eye(2, 384, dtype=np.float32))
    ]
    sink = WriteIndex(folder, tokens="tokens", model="minilm")
    sink.open()
    sink.write([row["id"] for row in rows], rows)
    sink.close()


def test_every_import_of_every_block_resolves(blocks):
    """A block that is copied finds all names that it imports."""
    trees = [ast.parse(block) for block in blocks(README, "python")]
    imports = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    ]

    assert len(trees) == 6
    assert len(imports) == 7
    for node in imports:
        module = importlib.import_module(node.module)
        assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.rag
def test_python_and_yaml_declare_pipelines_that_can_be_planned(blocks, tmp_path, monkeypatch):
    """Both blocks plan as they stand, given the files that they name; importing starts nothing."""
    monkeypatch.chdir(tmp_path)
    Path("questions.jsonl").write_text('{"id": "q-1", "question": "why?"}\n')
    Path("prompt.txt").write_text("{passages}\n{question}")
    make_index("corpus.index")

    python = execute(blocks(README, "python")[0])["rag"].plan()
    (yaml,) = blocks(README, "yaml")
    spec = reads(yaml)

    assert "embed+retrieve+rerank+prompt" in python.explain()
    assert "embed+retrieve+rerank+prompt+generate+select" in spec.pipeline.plan().explain()
    assert (spec.run.nodes, spec.run.threads) == (4, 2)
    assert not Path("runs").exists()


def test_operator_of_ones_own_runs(blocks):
    """The class that the README shows works, given a model."""
    names = execute(
        blocks(README, "python")[1], load_my_model=lambda: lambda texts: [*map(len, texts)]
    )
    texts = FromIterable([{"text": "a"}, {"text": "bc"}])
    pipeline = Pipeline("p").source(texts).stage("classify", names["Classify"]()).sink(Collect())

    pipeline.run()

    assert [record["label"] for record in pipeline.output.records] == [1, 2]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.parent.name)
def test_every_command_exists_with_its_options(document, commands):
    """Consoles and prose name commands and options that the command line knows."""
    text = document.read_text(encoding="utf-8")
    shown = [*commands(text), *re.findall(r"`(sage-dask [^`]+)`", text)]
    lines = [shlex.split(line) for line in shown if line.startswith("sage-dask ")]

    # Options are parsed before help is printed, and nothing is run after it.
    results = {" ".join(line): CliRunner().invoke(main, [*line[1:], "--help"]) for line in lines}

    assert {line: result.output for line, result in results.items() if result.exit_code} == {}
    assert lines


def test_layout_names_what_is_there():
    """Each path of the Layout block exists, modules and packages alike."""
    (layout,) = re.findall(r"^## Layout\n\n```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    # A name, two blanks or more, what it is; lines that are indented stand inside the package.
    lines = [re.match(r"( *)(\S.*?)(?: {2,}|$)", line).groups() for line in layout.splitlines()]
    top = [ROOT / names for indent, names in lines if not indent]
    inner = [
        ROOT / "sage_dask" / name for indent, names in lines if indent for name in names.split(", ")
    ]

    assert len(top) == 3
    assert len(inner) > 10
    for path in [*top, *inner]:
        assert path.is_dir() or path.with_suffix(".py").is_file(), path


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_exists(name):
    """A target that is named is one of the Makefile's, and has a line of help."""
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^\$ |`)make ([a-z]+)", text, re.MULTILINE))
    targets = re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert named
    assert named <= set(targets)


def test_every_extra_exists():
    """An extra that is named can be installed."""
    named = set(re.findall(r"`(?:sage-dask)?\[(\w+)\]`", README))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert len(named) == 6
    assert named <= set(project["optional-dependencies"])


def test_every_link_leads_to_a_file():
    """Links within the repository, and documents that are named, are there."""
    examples = ROOT / "examples" / "README.md"
    for document in [*DOCUMENTS, examples]:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
            assert (document.parent / target).exists(), f"{document}: {target}"
    folders = {path.parent.name for path in DOCUMENTS[1:]}
    assert folders == set(re.findall(r"\((\w+)/\)", examples.read_text(encoding="utf-8")))
