"""What a pipeline is known by, and what is no part of it."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest

from sage_dask import Operator, Stage, operators
from sage_dask.errors import PlanError
from sage_dask.fingerprint.changes import differences
from sage_dask.fingerprint.description import describe, from_json, to_json
from sage_dask.operators import Chunk, Embed, Generate, Map, Prompt, Rerank, Retrieve, Select
from sage_dask.operators.basic import Filter, FlatMap
from sage_dask.operators.retrieval.manifest import Manifest, file_facts

URL = "http://gpu-0:8000/v1"

# One of every operator, set in ways that use most of its settings.
SAMPLES = {
    "Chunk": Chunk,
    "Embed": lambda: Embed(endpoint=URL, model="m"),
    "Filter": lambda: Filter(bool),
    "FlatMap": lambda: FlatMap(list),
    "Generate": lambda: Generate(URL, "m"),
    "Map": lambda: Map(dict),
    "Prompt": lambda: Prompt(text="Answer {question}"),
    "Rerank": lambda: Rerank(endpoint=URL, model="m"),
    "Retrieve": lambda: Retrieve("index"),
    "Select": lambda: Select(["a"]),
}

# Settings that other tests set, since they name a file.
BY_FILE = {("Rerank", "index"), ("Prompt", "path")}


@dataclass
class Tuned(Operator):
    """An operator as users write them."""

    depth: int = 1
    threads: int = 1
    login: str = field(default="", repr=False)

    immaterial = ("threads",)

    def process_batch(self, records):
        return list(records)


class Counting(Operator):
    """Holds its settings, and what it made on the way, as plain attributes."""

    def __init__(self, words):
        self.words = words
        self._seen = 0

    def process_batch(self, records):
        self._seen += len(records)
        return list(records)


@pytest.fixture
def index(tmp_path):
    """Return a function that writes an index folder which holds a text."""

    def write(name, text):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "passages").write_text(text)
        Manifest("m", 3, "flat", 1, None, False, file_facts(folder), f"at {name}").write(folder)
        return str(folder)

    return write


def settings(operator):
    """Return the settings that a stage with an operator is described by."""
    return describe("p", [Stage("s", operator)]).stages[0].settings


def changed(old, new):
    """Return which settings differ between two operators, as written and read back."""
    one, two = (describe("p", [Stage("s", each)]) for each in (old, new))
    return {change.what for change in differences(from_json(to_json(one)), two)}


def test_every_operator_is_walked_over():
    """No operator of this package is without a sample here."""
    public = (getattr(operators, name) for name in operators.__all__)
    known = {each.__name__ for each in public if Operator in each.__mro__}

    assert set(SAMPLES) == known


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_immaterial_is_a_setting(name):
    """An operator names settings that it has, each once."""
    operator = SAMPLES[name]()
    parameters = inspect.signature(type(operator)).parameters

    assert set(operator.immaterial) <= set(parameters)
    assert len(set(operator.immaterial)) == len(operator.immaterial)


@pytest.mark.parametrize("name", SAMPLES)
def test_each_setting_is_compared_or_immaterial(name, index):
    """A setting that is set otherwise is a difference if and only if it is not immaterial."""
    operator = Retrieve(index("one", "a")) if name == "Retrieve" else SAMPLES[name]()
    values = {"function": repr, "endpoint": None, "json_schema": {"type": "string"}}
    values |= {"text": "Other {words}", "extra": {"top_k": 7}}
    if name == "Retrieve":
        values["index"] = index("two", "b")

    for parameter in fields(operator):
        if not parameter.init or (name, parameter.name) in BY_FILE:
            continue
        other = replace(operator)
        setattr(other, parameter.name, values.get(parameter.name, "something else"))
        wanted = set() if parameter.name in operator.immaterial else {parameter.name}

        assert changed(operator, other) == wanted, parameter.name


def test_a_server_that_moved_is_the_same_server():
    """Address, key, limits, tries, deadlines and prices may all be others."""
    old = Generate(URL, "m", api_key_env="OLD_KEY", limit=3)
    new = Generate(
        ["http://gpu-1:9000/v1", "http://gpu-2:9000/v1"],
        "m",
        api_key_file="/keys/new",
        attempts=9,
        timeout_s=5.0,
        max_outage_s=9.0,
        requests_per_minute=60,
        price={"prompt": 1.0},
        cache=False,
        stream=True,
    )

    assert changed(old, new) == set()
    assert "KEY" not in json.dumps(settings(old))
    assert "gpu-0" not in json.dumps(settings(old))


def test_a_server_instead_of_the_process_is_a_change():
    """Vectors that are computed here are not those of a server whose model has the same name."""
    assert changed(Embed(model="m"), Embed(endpoint=URL, model="m")) == {"endpoint"}


def test_an_index_is_known_by_what_it_holds(index):
    """A copy elsewhere, made by whomever, is the same index; one of the same name need not be."""
    first, copy, other = index("first", "a"), index("copy", "a"), index("other", "b")

    assert changed(Retrieve(first), Retrieve(copy)) == set()
    assert changed(Retrieve(first), Retrieve(other)) == {"index"}
    assert changed(Rerank(index=first), Rerank(index=copy)) == set()
    assert changed(Rerank(index=first), Rerank(index=other)) == {"index"}
    assert changed(Rerank(index=first), Rerank()) == {"index"}


def test_an_index_that_is_gone_is_told():
    """What a stage is known by must be there."""
    with pytest.raises(PlanError, match="index 'nowhere' does not exist"):
        settings(Retrieve("nowhere"))


def test_a_template_and_a_schema_are_known_by_their_text(tmp_path):
    """Whether they are written in the pipeline or in a file is the same."""
    template, schema = tmp_path / "prompt.txt", tmp_path / "schema.json"
    template.write_text("Answer {question} {{now}}")
    schema.write_text('{"type": "string"}')

    inline = Prompt(text="Answer {question} {{now}}")
    assert changed(Prompt(str(template)), inline) == set()
    assert changed(Prompt(str(template)), Prompt(text="Answer {question}")) == {"text"}
    assert changed(inline, Prompt(text="Answer {question} {now}")) == {"text"}
    by_file = Generate(URL, "m", json_schema=str(schema))
    assert changed(by_file, Generate(URL, "m", json_schema={"type": "string"})) == set()
    assert changed(by_file, Generate(URL, "m", json_schema={"type": "number"})) == {"json_schema"}


def test_scheduling_is_no_part_of_a_stage():
    """The same operator with another batch size, priority and so on is the same stage."""
    plainly = Stage("s", Chunk())
    other = Stage(
        "s", Chunk(), batch_size=3, resources={"G": 1}, gates={"g": 1}, priority=5, attempts=2
    )

    assert describe("p", [plainly]) == describe("p", [replace(other, fuse=False)])


def test_users_operators_say_what_is_immaterial():
    """A class attribute is enough, and what the operator does not show is not shown."""
    assert changed(Tuned(threads=1), Tuned(threads=2)) == set()
    assert changed(Tuned(depth=1), Tuned(depth=2)) == {"depth"}
    assert changed(Tuned(login="a"), Tuned(login="b")) == {"login"}
    assert "s3cr3t" not in json.dumps(settings(Tuned(login="s3cr3t")))


def test_what_an_operator_made_while_it_ran_is_no_part_of_it():
    """Private attributes change during a run, and the operator stays the same."""
    operator = Counting({"a"})
    before = settings(operator)

    operator.process_batch([{}])

    assert settings(operator) == before == {"words": ["a"]}


def test_the_code_of_a_users_operator_counts():
    """Another process_batch under the same name is another operator."""

    def declared(source):
        space: dict[str, Any] = {"__name__": "flow", "Operator": Operator}
        exec(f"class Own(Operator):\n def process_batch(self, records): return {source}", space)
        return space["Own"]()

    assert changed(declared("records"), declared("records")) == set()
    assert changed(declared("records"), declared("records[:0]")) == {"code"}


SCRIPT = """
import functools, operator, threading
from dataclasses import dataclass
from sage_dask import Operator, Stage
from sage_dask.fingerprint.description import describe, to_json
from sage_dask.operators import Filter, FlatMap, Map

@dataclass
class Own(Operator):
    words: frozenset = frozenset({"x", "y", "z", "alpha", "beta"})
    lock: object = None
    def process_batch(self, records):
        return [r for r in records if r["t"] in {"one", "two", "three", "four"}]

class Called:
    def __init__(self, words): self.words = words
    def __call__(self, record): return {w: record for w in self.words if w in {"q", "r", "s"}}

def made(words):
    def keep(record):
        "Keep."
        return record["t"] in words or any(w in {"a", "b", "c"} for w in words)
    return keep

called = Called({"m", "n", "o"})
functions = [
    made({"u", "v", "w"}), lambda r: {k: r[k] for k in r if k in {"a", "b", "c"}}, called,
    called.__call__, functools.partial(made, words={"a", "b"}), operator.itemgetter("t"),
    functools.lru_cache(made), str.upper, object(), {object(): threading.Lock()},
]
stages = [Stage(f"s{n}", Map(f)) for n, f in enumerate(functions)]
print(to_json(describe("p", [*stages, Stage("own", Own(lock=threading.Lock()))])))
"""


def test_equal_pipelines_are_described_alike_in_every_process(tmp_path):
    """Neither the order of sets nor addresses, lines or paths reach a description."""
    texts = set()
    for seed, head in (("0", ""), ("1", "\n" * 40), ("7", "'''A script.'''\n")):
        script = tmp_path / f"flow_{seed}.py"
        script.write_text(head + SCRIPT)
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        ran = subprocess.run(
            [sys.executable, script], env=environment, capture_output=True, text=True, check=True
        )
        texts.add(ran.stdout)

    assert len(texts) == 1
    assert "0x" not in texts.pop()


def test_a_description_survives_being_written_down():
    """Reading gives what was written, and writing it again the same text."""
    description = describe("p", [Stage(name.lower(), make()) for name, make in SAMPLES.items()
                                 if name != "Retrieve"])  # fmt: skip

    assert from_json(to_json(description)) == description
    assert to_json(from_json(to_json(description))) == to_json(description)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"version": 1}', "damaged"),
        ('{"version": 1, "pipeline": "p", "python": "3.11", "stages": [{"nme": 1}]}', "damaged"),
        ('{"version": 2, "anything": []}', "has version 2, and this sage_dask reads 1"),
    ],
)
def test_a_description_that_can_not_be_read_is_refused(text, told):
    """Damage and other versions are told with the mend."""
    with pytest.raises(PlanError, match=f"{told}.*another run_dir"):
        from_json(text)
