"""Which parameters are paths, and what becomes of them in a file that roots bind."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_dask.errors import SpecError
from sage_dask.spec import Roots, load, loads, reads
from sage_dask.spec.annotations import fits, hints_of
from sage_dask.spec.building import FUNCTION, parameters_of
from sage_dask.spec.paths import PATHS
from sage_dask.spec.references import resolve
from sage_dask.spec.words import SINK, SOURCE, STAGE

# Every parameter that takes a text and is no path: names of fields and columns, texts of
# prompts, addresses, words of a choice, and names that only servers and readers know.
NO_PATHS = {
    "api",
    "api_key_env",
    "answer",
    "delimiter",
    "embedding",
    "endpoint",
    "field",
    "hybrid",
    "id",
    "into",
    "kind",
    "method",
    "parameters",
    "passages",
    "prefix",
    "priority",
    "prompt",
    "query",
    "query_tokens",
    "question",
    "seed",
    "stop",
    "system",
    "text",
    "tokens",
    "tokens_into",
    "unit",
    "vector",
}
NO_PATHS_OF = {("generate", "model"), ("write_index", "model")}

ROLES = {role.name: role for role in (SOURCE, STAGE, SINK)}

TEXTS = [
    (role.name, word, field.name)
    for role in ROLES.values()
    for word, target in role.words.items()
    for cls in [resolve(target, None)]
    for field in parameters_of(cls)
    if field.name != FUNCTION and fits("a text", hints_of(cls)[field.name])
]


def is_path(word, name):
    """Tell what is declared of a parameter; fail where nothing is."""
    declared = name in PATHS.get(word, {})
    excluded = name in NO_PATHS or (word, name) in NO_PATHS_OF
    assert declared != excluded, f"say in spec/paths.py whether {word}: {name} is a path"
    return declared


@pytest.mark.parametrize(("role", "word", "name"), TEXTS)
def test_every_text_is_declared_a_path_or_none(role, word, name):
    """A parameter that is added later can not slip past the roots."""
    is_path(word, name)


def test_what_is_declared_is_there():
    """The table names words and parameters that exist and take texts."""
    declared = {(word, name) for word, names in PATHS.items() for name in names}

    assert declared <= {(word, name) for _, word, name in TEXTS}


def written(role, word, parameters):
    """Return a pipeline with one entry of interest."""
    entries = {
        "source": "from_iterable: {items: [a]}",
        "operator": "select: {fields: [a]}",
        "sink": "collect: {}",
    } | {role: f"{word}: {{{parameters}}}"}
    return (
        f"pipeline: p\nsource:\n  {entries['source']}\nstages:\n  - {entries['operator']}\n"
        f"sink:\n  {entries['sink']}\n"
    )


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Lend the current folder's ``root``."""
    monkeypatch.chdir(tmp_path)
    Path("root").mkdir()
    return tmp_path / "root"


PATH_TEXTS = [each for each in TEXTS if each[2] in PATHS.get(each[1], {})]


@pytest.mark.parametrize(("role", "word", "name"), PATH_TEXTS)
def test_each_path_is_held_by_roots(root, role, word, name):
    """Outside it is refused at its own line; under a root the pipeline is given its place."""
    beside = "" if name != "api_key_file" else "endpoint: 'http://127.0.0.1:1/v1', "
    text = written(role, word, f"{beside}{name}: PLACE")
    (root / "some").mkdir() if name in ("model", "embedder") else (root / "some").write_text("Hi")

    with pytest.raises(SpecError, match=rf"^<text>:\d+:\d+: {word}: parameter '{name}': .*roots"):
        loads(text.replace("PLACE", "root/../elsewhere"), roots=Roots([root]))
    pipeline = loads(text.replace("PLACE", "root/some"), roots=Roots([root]))

    thing = {"source": pipeline.input, "sink": pipeline.output}.get(
        role, pipeline.stages[0].operator
    )
    assert getattr(thing, name) == str(root / "some")


@pytest.mark.parametrize(
    ("role", "word", "name"),
    [each for each in PATH_TEXTS if each[0] == "sink" or each[2] == "cache"],
)
def test_what_is_written_has_its_companions_judged(root, role, word, name):
    """Every output, and the cache, is held by the rule for what is written, not read."""
    (root / "some.partial").symlink_to(root.parent / "elsewhere")

    with pytest.raises(SpecError, match=r"some\.partial' leads to .*under none of the roots"):
        loads(written(role, word, f"{name}: root/some"), roots=Roots([root]))


@pytest.mark.parametrize(("word", "name"), [("embed", "model"), ("rerank", "model")])
def test_a_server_s_model_is_a_name(root, word, name):
    """With an endpoint the name goes to the server; null is no endpoint."""
    served = written("operator", word, f"endpoint: 'http://127.0.0.1:1/v1', {name}: org/model")
    local = written("operator", word, f"endpoint: null, {name}: org/model")

    assert getattr(loads(served, roots=Roots([root])).stages[0].operator, name) == "org/model"
    with pytest.raises(SpecError, match="under none of the roots"):
        loads(local, roots=Roots([root]))


def test_what_is_no_text_is_no_path(root):
    """A schema that is written out and a cache that is only switched are left alone."""
    text = written("operator", "generate", "json_schema: {type: object}, cache: true")

    operator = loads(text, roots=Roots([root])).stages[0].operator

    assert (operator.json_schema, operator.cache) == ({"type": "object"}, True)


@pytest.mark.parametrize(
    ("role", "word", "parameters"),
    [
        ("operator", "map", 'function: "trap:go"'),
        ("operator", "filter", 'function: "os:getcwd"'),
        ("operator", '"trap:Stage"', ""),
        ("source", '"trap:Source"', ""),
        ("sink", '"sage_dask.operators.sinks:WriteJsonl"', "path: /tmp/x"),
    ],
)
def test_code_is_refused_and_not_imported(root, role, word, parameters):
    """Roots do not hold code, so nothing of a module runs, not even its import."""
    Path("trap.py").write_text("from pathlib import Path\nPath('sprung').touch()\n")

    with pytest.raises(SpecError, match="names code, which roots do not hold"):
        reads(written(role, word, parameters), base=".", roots=Roots([root]))

    assert not Path("sprung").exists()


def test_a_file_of_one_s_own_is_not_bound(root):
    """Without roots a file names what its reader may open, as it stands."""
    Path("p.yaml").write_text(written("source", "read_jsonl", "path: ../x.jsonl"))

    assert load("p.yaml").input.path == "../x.jsonl"
    with pytest.raises(SpecError, match=r"^p\.yaml:3:22: read_jsonl: parameter 'path'"):
        load("p.yaml", roots=Roots([root]))
