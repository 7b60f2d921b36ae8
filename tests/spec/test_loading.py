"""Reading pipelines from YAML."""

from __future__ import annotations

import copy
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_dask import Pipeline
from sage_dask.errors import PlanError, SpecError
from sage_dask.operators.basic import Map, Select
from sage_dask.operators.sinks import Collect, WriteJsonl
from sage_dask.operators.sources import ReadJsonl
from sage_dask.spec import RunDefaults, load, loads, read, reads

RAG = """\
pipeline: rag
source:
  read_jsonl: {path: questions.jsonl, id: id}
stages:
  - embed: {model: minilm, text: question}
  - retrieve: {index: corpus.index, k: 10}
  - name: final
    rerank: {k: 3}
    batch_size: 16
    resources: {LLM: 1}
    gates: {llm: 2}
    priority: 2
    attempts: 2
    fuse: false
  - map: {function: "copy:copy", reads: [passages], writes: [passages]}
  - map: {function: "copy:deepcopy"}
sink:
  write_jsonl: {path: answers.jsonl}
run:
  nodes: 4
  threads: 2
  policy: pack
  gates: {llm: 32}
  priority: 1.5
  weight: 2
  quota: {threads: 8}
  record_priority: urgency
  ordered: true
  batch_size: null
  target_task_s: 0.2
"""

SMALL = """\
pipeline: small
source:
  read_jsonl: {path: in.jsonl}
stages:
  - select: {fields: [a]}
sink: collect
"""


def test_words_become_operators_and_keys_their_parameters():
    """A file of the documented form is the pipeline that Python would declare."""
    pipeline = loads(SMALL)

    expected = (
        Pipeline("small")
        .source(ReadJsonl("in.jsonl"))
        .stage("select", Select(["a"]))
        .sink(Collect())
    )
    assert pipeline == expected


def test_stage_options_stand_beside_the_operator():
    """Every option of a stage is read, and functions are imported."""
    stages = loads(RAG).stages

    assert [stage.name for stage in stages] == ["embed", "retrieve", "final", "map", "map_2"]
    final = stages[2]
    assert (final.batch_size, final.resources, final.priority) == (16, {"LLM": 1}, 2)
    assert (final.attempts, final.fuse, final.operator.k) == (2, False, 3)
    assert final.gates == {"llm": 2}
    assert stages[3].operator == Map(copy.copy, ["passages"], ["passages"])
    assert loads(RAG).output == WriteJsonl("answers.jsonl")


def test_run_section_limits_what_is_spent():
    """A budget is part of how a file wants to be run, and what is none is refused at its line."""
    spec = reads(f"{SMALL}run: {{max_cost: 12.5, max_tokens: 1000}}\n")

    assert (spec.run.max_cost, spec.run.max_tokens) == (12.5, 1000)
    with pytest.raises(SpecError, match=r"\d+:\d+: run option max_cost=0 must be a positive"):
        reads(f"{SMALL}run: {{max_cost: 0}}\n")


def test_a_run_may_be_given_a_limit_of_failures_and_of_patience():
    """A number, a share and a time are taken; what is none of them is refused at its line."""
    spec = reads(f"{SMALL}run: {{max_errors: 0.05, max_stall_s: 60}}\n")

    assert (spec.run.max_errors, spec.run.max_stall_s) == (0.05, 60)
    assert reads(f"{SMALL}run: {{max_errors: 10}}\n").run.max_errors == 10
    with pytest.raises(SpecError, match=r"\d+:\d+: run option max_errors=1.5 is neither"):
        reads(f"{SMALL}run: {{max_errors: 1.5}}\n")
    with pytest.raises(SpecError, match=r"\d+:\d+: run option max_stall_s=-1 must be"):
        reads(f"{SMALL}run: {{max_stall_s: -1}}\n")


def test_run_section_gives_defaults():
    """The run section is read apart from the pipeline, and null says nothing."""
    spec = reads(RAG)

    assert spec.run == RunDefaults(
        nodes=4,
        threads=2,
        policy="pack",
        gates={"llm": 32},
        priority=1.5,
        weight=2,
        quota={"threads": 8},
        record_priority="urgency",
        ordered=True,
        batch_size=None,
        target_task_s=0.2,
    )
    assert reads(SMALL).run == RunDefaults()
    nothing = "policy: null, gates: null, priority: null, weight: null, quota: null"
    assert reads(f"{SMALL}run: {{{nothing}}}\n").run == RunDefaults()


def test_operators_beside_the_file_are_found(tmp_path):
    """``module:Class`` and ``module:function`` are looked up beside the file."""
    (tmp_path / "neighbour_ops.py").write_text(
        "from dataclasses import dataclass\n"
        "from sage_dask.operators.basic import Select\n"
        "@dataclass\n"
        "class Narrow(Select):\n"
        "    strict: bool = True\n"
        "def clean(record):\n"
        "    return record\n"
    )
    path = tmp_path / "p.yaml"
    path.write_text(
        SMALL.replace("- select:", "- neighbour_ops:Narrow:").replace(
            "sink:", '  - map: {function: "neighbour_ops:clean"}\nsink:'
        )
    )

    stages = load(path).stages

    assert [stage.name for stage in stages] == ["narrow", "map"]
    assert type(stages[0].operator).__name__ == "Narrow"
    assert stages[1].operator.function({"a": 1}) == {"a": 1}


# What is replaced in SMALL, by what, and how the message must begin and what it must say.
FAULTS = [
    ("pipeline: small", "pipeline: [a]", "f:1:11: ", "a text is wanted"),
    ("pipeline: small\n", "", "f:1:1: ", "no 'pipeline'"),
    ("sink: collect", "sink: collect\nsinks: collect", "f:7:1: ", "did you mean 'sink'"),
    ("sink: collect", "sink: colect", "f:6:7: ", "did you mean 'collect'"),
    ("sink: collect", "sink: read_jsonl", "f:6:7: ", "'read_jsonl' is a source"),
    ("sink: collect", "sink: {collect: {}, write_csv: {}}", "f:6:7: ", "2 entries"),
    ("sink: collect", "sink: {collect: {path: a}}", "f:6:18: ", "unknown parameter 'path'"),
    ("read_jsonl", "read_json", "f:3:3: ", "did you mean 'read_jsonl'"),
    ("path:", "pathh:", "f:3:16: ", "did you mean 'path'"),
    ("{path: in.jsonl}", "{}", "f:3:3: ", "needs 'path'"),
    ("in.jsonl", "5", "f:3:22: ", "the number 5, and what is wanted is a text"),
    ("in.jsonl}", "a, max_line_bytes: 1.5}", "f:3:41: ", "wanted is a whole number"),
    ("in.jsonl}", "a, max_line_bytes: 0}", "f:3:3: ", "must be at least 1"),
    ("[a]", "a", "f:5:22: ", "a list, each item a text"),
    ("[a]", "[a, 1]", "f:5:26: ", "holds the number 1, and what is wanted is a text; put it in"),
    ("[a]", "[a, 1e3]", "f:5:26: ", "the number 1e3, and what is wanted is a text; put it in"),
    ("[a]", "[a, [b]]", "f:5:26: ", "holds a list, and what is wanted is a text"),
    ("small", "12", "f:1:11: ", "the number 12, and a text is wanted; put it in quotes: '12'"),
    ("in.jsonl", "~", "f:3:22: ", "null, and what is wanted is a text; put it in quotes: '~'"),
    ("in.jsonl", "true", "f:3:22: ", "put it in quotes: 'true'"),
    ("in.jsonl", '"a\\0b"', "f:3:22: ", "U+0000, which no path has"),
    ("in.jsonl}", "a, max_line_bytes: 0x1f}", "f:3:41: ", "the text '0x1f', and what is wanted"),
    ("in.jsonl}", "a, max_line_bytes: 1e3}", "f:3:41: ", "number 1e3, and what is wanted is a who"),
    ("[a]}", "[a]}\n    fuse: no", "f:6:11: ", "the text 'no', and what is wanted is true or fal"),
    ("[a]}", "[a]}\n    batch_size: many", "f:6:17: ", "a whole number or null"),
    ("[a]}", "[a]}\n    batch_size: true", "f:6:17: ", "the boolean true"),
    ("[a]}", "[a]}\n    batchsize: 1", "f:5:5: ", "2 operators"),
    ("[a]}", "[a]}\n    attempts: 0", "f:5:5: ", "must be at least 1"),
    ("[a]}", "[a]}\n    gates: {llm: 0}", "f:5:5: ", "gate 'llm' asks for 0 slots"),
    ("[a]}", "[a]}\n    gates: {llm: 1.5}", "f:6:18: ", "'gates' holds the number 1.5"),
    ("[a]}", "[a]}\n    name: a-b", "f:5:5: ", "stage name 'a-b'"),
    ("- select: {fields: [a]}", "- {}", "f:5:5: ", "0 operators"),
    ("  - select: {fields: [a]}", "  select: {}", "f:5:3: ", "a list is wanted"),
    ("- select: {fields: [a]}", '- map: {function: "no_such:f"}', "f:5:21: ", "No module named"),
    ("- select: {fields: [a]}", "- map: {function: copy:cop}", "f:5:21: ", "did you mean 'copy'"),
    ("- select: {fields: [a]}", "- map: {function: just text}", "f:5:21: ", "module:name"),
    ("- select: {fields: [a]}", "- map: {function: math:pi}", "f:5:21: ", "wanted is a function"),
    ("- select: {fields: [a]}", "- copy:copy: {}", "f:5:5: ", "is no operator"),
    ("sink: collect", "sink: collect\nrun: {nodes: two}", "f:7:14: ", "a whole number or null"),
    ("sink: collect", "sink: collect\nrun: {node: 2}", "f:7:7: ", "did you mean 'nodes'"),
    ("sink: collect", "sink: collect\nrun: {policy: spred}", "f:7:15: ", "did you mean 'spread'"),
    ("sink: collect", "sink: collect\nrun: {policy: 5}", "f:7:15: ", "a text or null"),
    ("sink: collect", "sink: collect\nrun: {weight: -1}", "f:7:15: ", "a positive number"),
    ("sink: collect", "sink: collect\nrun: {weight: all}", "f:7:15: ", "a number or null"),
    ("sink: collect", "sink: collect\nrun: {quota: {LLM: 0}}", "f:7:14: ", "quota of 'LLM' is 0"),
    ("sink: collect", "sink: collect\nrun: {gates: {llm: 0}}", "f:7:14: ", "is given 0 slots"),
    ("sink: collect", "sink: collect\nrun: {gates: {llm: x}}", "f:7:20: ", "a whole number"),
    ("sink: collect", "sink: collect\nrun: {gate: {}}", "f:7:7: ", "did you mean 'gates'"),
]


@pytest.mark.parametrize(("old", "new", "place", "says"), FAULTS)
def test_faults_are_refused_with_their_place(old, new, place, says):
    """Each fault names line and column, what is wrong, and how to mend it."""
    assert old in SMALL

    with pytest.raises(SpecError) as caught:
        reads(SMALL.replace(old, new), origin="f")

    assert str(caught.value).startswith(place)
    assert says in str(caught.value)


def test_a_failing_constructor_is_a_fault_of_its_line(tmp_path):
    """What a class of the user's raises while it is made is refused with the line."""
    (tmp_path / "raising_ops.py").write_text(
        "from dataclasses import dataclass\n"
        "from sage_dask import Operator\n"
        "@dataclass\n"
        "class Picky(Operator):\n"
        "    def __post_init__(self):\n"
        "        raise KeyError('moon')\n"
        "    def process_batch(self, records):\n"
        "        return records\n"
    )

    with pytest.raises(SpecError, match=r"^<text>:5:5: .*KeyError: 'moon'"):
        loads(SMALL.replace("select: {fields: [a]}", "raising_ops:Picky: {}"), base=tmp_path)


def test_files_that_are_no_text_are_refused(tmp_path):
    """A missing, an oversized and a non-UTF-8 file are told apart."""
    missing, latin, large = (tmp_path / name for name in ("no.yaml", "latin.yaml", "large.yaml"))
    latin.write_bytes(b"pipeline: a\nsource: caf\xe9\n")
    large.write_bytes(b"#" * ((1 << 20) + 1))

    with pytest.raises(SpecError, match="can not be read"):
        load(missing)
    with pytest.raises(SpecError, match=r"latin\.yaml:2:12: byte 0xe9 is not UTF-8"):
        load(latin)
    with pytest.raises(SpecError, match=r"1,048,577 bytes"):
        load(large)


def test_errors_of_a_file_name_it_as_it_was_given(tmp_path, monkeypatch):
    """The place in a message is the path that the user typed."""
    monkeypatch.chdir(tmp_path)
    Path("p.yaml").write_text(SMALL.replace("select", "selec"))

    with pytest.raises(SpecError, match=r"^p\.yaml:5:5: unknown operator 'selec'"):
        read("p.yaml")


MUTATION = st.tuples(
    st.sampled_from(["drop", "double", "alter"]),
    st.integers(0, len(RAG) - 1),
    st.integers(1, 30),
    st.characters(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(MUTATION, min_size=1, max_size=4))
def test_damaged_text_loads_or_is_refused(mutations):
    """Whatever happens to a file's characters, it loads or raises a plan error."""
    text = RAG
    for kind, start, length, character in mutations:
        piece = {"drop": "", "double": 2 * text[start : start + length], "alter": character}[kind]
        text = text[:start] + piece + text[start + length :]

    # Anything but a plan error would fail the test.
    with suppress(PlanError):
        assert isinstance(loads(text), Pipeline)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.sampled_from(list("{}[]:,-#&*!|>'\"%@` \n\tab1.~?\\xuU\x00\ufeff"))))
def test_any_text_is_refused_politely(text):
    """Random YAML punctuation never raises anything but a spec error."""
    with pytest.raises(SpecError):
        loads(text)
