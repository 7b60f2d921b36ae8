"""Writing pipelines as YAML."""

from __future__ import annotations

import copy
import math
import operator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask import Operator, Pipeline
from sage_dask.errors import SpecError
from sage_dask.operators.basic import Filter, FlatMap, Map, Select
from sage_dask.operators.embed import Embed
from sage_dask.operators.generate import Generate
from sage_dask.operators.prompt import Prompt
from sage_dask.operators.rerank import Rerank
from sage_dask.operators.retrieve import Retrieve
from sage_dask.operators.sinks import Collect, WriteCsv, WriteJsonl, WriteOpenAIBatch, WriteParquet
from sage_dask.operators.sources import (
    FromIterable,
    ReadCsv,
    ReadJsonl,
    ReadOpenAIBatch,
    ReadParquet,
    ReadText,
)
from sage_dask.operators.text import Chunk
from sage_dask.operators.write_index import WriteIndex
from sage_dask.spec import dump, loads
from sage_dask.spec.words import SINK, SOURCE, STAGE, default_name, word_for

SOURCES = [
    FromIterable([{"a": 1, "b": [None, True, 0.5, "é"]}, "text"]),
    ReadCsv("a.csv", delimiter=";"),
    ReadJsonl("a.jsonl", id="id", fields=["id", "text"]),
    ReadOpenAIBatch("a.jsonl"),
    ReadParquet("a.parquet"),
    ReadText("a.txt"),
]
OPERATORS = [
    Chunk(words=50),
    Embed(text="question", tokens_into="tokens"),
    Filter(operator.truth, ["a"]),
    FlatMap(copy.copy, writes=["b"]),
    Generate(
        endpoint=["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"],
        model="m",
        extra={"top_k": 1},
        timeout_s=5.0,
        seed="record",
        logprobs=True,
        json_schema={"type": "object", "required": ["a"]},
        price={"prompt": 0.5},
    ),
    Map(copy.copy),
    Prompt(text="Answer: {question}\n"),
    Rerank(k=3, method="rrf"),
    Retrieve(index="corpus.index", k=20),
    Select(["a", "yes", "1e-3", "1:30", "0x1", "~", ""]),
]
SINKS = [
    Collect(),
    WriteCsv("a.csv"),
    WriteIndex("corpus.index", kind="hnsw", keep=["title"]),
    WriteJsonl("a.jsonl.gz"),
    WriteOpenAIBatch("a.jsonl"),
    WriteParquet("a.parquet"),
]


def pipeline_of(source=SOURCES[1], stage=OPERATORS[0], sink=SINKS[1], **options):
    """Return a pipeline of one stage."""
    return Pipeline("p").source(source).stage("only", stage, **options).sink(sink)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_sources_come_back_equal(source):
    """Each built-in source survives the way to YAML and back."""
    pipeline = pipeline_of(source=source)

    assert loads(dump(pipeline)) == pipeline


@pytest.mark.parametrize("stage", OPERATORS, ids=lambda stage: type(stage).__name__)
def test_operators_come_back_equal(stage):
    """Each built-in operator survives the way to YAML and back."""
    pipeline = pipeline_of(stage=stage)

    assert loads(dump(pipeline)) == pipeline


@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: type(sink).__name__)
def test_sinks_come_back_equal(sink):
    """Each built-in sink survives the way to YAML and back."""
    pipeline = pipeline_of(sink=sink)

    assert loads(dump(pipeline)) == pipeline


@pytest.mark.parametrize(
    ("role", "things"),
    [(SOURCE, SOURCES), (STAGE, OPERATORS), (SINK, SINKS)],
    ids=["sources", "stages", "sinks"],
)
def test_every_word_is_the_name_of_its_class(role, things):
    """The tests above miss no word, and each word is its class name in snake case."""
    words = {word_for(role, thing) for thing in things}

    assert words == set(role.words)
    assert all(default_name(target) == word for word, target in role.words.items())


def test_stage_options_come_back():
    """Options that are not at their defaults are written, and the stage's own name."""
    pipeline = pipeline_of(
        batch_size=4, resources={"LLM": 1}, gates={"llm": 2}, priority=-1, attempts=3, fuse=False
    )

    assert loads(dump(pipeline)) == pipeline
    assert "gates: {llm: 2}" in dump(pipeline)


def test_defaults_are_not_written():
    """What was left at its default, names included, is left out."""
    pipeline = Pipeline("p").source(ReadJsonl("a")).sink(Collect())
    pipeline = pipeline.stage("map", Map(copy.copy)).stage("map_2", Map(copy.copy))

    assert dump(pipeline) == (
        "pipeline: p\n"
        "source:\n"
        "  read_jsonl: {path: a}\n"
        "stages:\n"
        "- map: {function: 'copy:copy'}\n"
        "- map: {function: 'copy:copy'}\n"
        "sink:\n"
        "  collect: {}\n"
    )


@pytest.mark.parametrize(
    "text", ["\x85", "a\u2028b", "\ufeff", "\r\n", "\x00", "\ud800", " a", "- b", "é"]
)
def test_awkward_texts_come_back(text):
    """Line breaks of other kinds, marks, control characters and spaces are escaped."""
    pipeline = pipeline_of(stage=Prompt(text=text))

    assert loads(dump(pipeline)) == pipeline


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(plain, min_size=1, max_size=3), st.text(min_size=1))
def test_any_plain_values_come_back(items, name):
    """No text, number or nesting of them changes on the way to YAML and back."""
    pipeline = Pipeline(name).source(FromIterable(items)).stage("s", Select(["a"])).sink(Collect())

    assert loads(dump(pipeline)) == pipeline


@dataclass
class Local(Operator):
    """An operator of a module that can not be imported by its name."""

    def process_batch(self, records):
        """Return the records."""
        return records


def closure():
    """Return a function that has no place in a module."""

    def inner(record):
        return record

    return inner


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        (Map(lambda record: record), "a lambda"),
        (Map(closure()), "defined inside a function"),
        (Map({}.get), "has no name"),
        (Select(["a", math.inf]), r"fields\[1\] is inf"),
        (Select(["a", b"b"]), r"fields\[1\] is b'b' \(bytes\)"),
        (Select(["a", 1 << 63]), r"fields\[1\] is 9223372036854775808"),
        (Select([{1: "a"}]), "keys in YAML are texts"),
    ],
)
def test_what_has_no_form_is_refused(stage, says):
    """What YAML or an import can not bring back is refused by pipeline and stage."""
    with pytest.raises(SpecError, match=f"^pipeline 'p', stage 'only': .*({says})"):
        dump(pipeline_of(stage=stage))


def test_an_iterator_is_refused():
    """A source over a generator can not be written."""
    source = FromIterable(iter([1]))

    with pytest.raises(SpecError, match="source: items is <list_iterator"):
        dump(pipeline_of(source=source))


def test_a_pipeline_without_a_sink_is_refused():
    """A declaration that is not finished has no file."""
    with pytest.raises(SpecError, match="has no sink"):
        dump(Pipeline("p").source(ReadJsonl("a")))
