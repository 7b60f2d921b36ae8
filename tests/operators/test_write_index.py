from __future__ import annotations

import json
import pickle

import numpy as np
import pytest

from sage_dask.errors import SinkError
from sage_dask.operators.retrieval.passage_index import PassageIndex
from sage_dask.operators.write_index import WriteIndex
from sage_dask.record import Failure

pytestmark = pytest.mark.rag


def passage(text="some text", width=4, **more):
    return {"text": text, "embedding": np.ones(width, np.float32), **more}


def test_records_become_passages(tmp_path):
    """Ids, texts and metadata of records are found again in the index."""
    sink = WriteIndex(str(tmp_path / "i"), model="m")
    sink.check()
    sink.open()
    sink.write(["a"], [passage("first", title="One")])
    failures = sink.write(["b"], [passage("second", year=2)])
    sink.close()

    index = PassageIndex.load(tmp_path / "i")

    assert failures == []
    assert list(index.passages) == [
        {"title": "One", "text": "first", "id": "a"},
        {"year": 2, "text": "second", "id": "b"},
    ]
    assert index.manifest.model == "m"


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (passage(text=""), "ValueError"),
        ({"text": "no vector"}, "ValueError"),
        (passage(width=5), "ValueError"),
        (passage(embedding=[1.0, float("nan"), 0.0, 0.0]), "ValueError"),
        (passage(made=object()), "TypeError"),
    ],
)
def test_a_record_without_a_form_fails_alone(tmp_path, record, error):
    """Its neighbours are indexed, and its failure names it."""
    sink = WriteIndex(str(tmp_path / "i"))
    sink.open()

    failures = sink.write(["good", "bad", "fine"], [passage(), record, passage()])
    sink.close()

    assert [(failure.id, failure.error) for failure in failures] == [("bad", error)]
    names = [found["id"] for found in PassageIndex.load(tmp_path / "i").passages]
    assert names == ["good", "fine"]


def test_tokens_are_stored_when_named(tmp_path):
    """The field with token vectors goes to the token store and not into the passage."""
    sink = WriteIndex(str(tmp_path / "i"), tokens="vectors")
    sink.open()
    tokens = np.eye(4, dtype=np.float16)[:3]

    failures = sink.write(["a", "b"], [passage(vectors=tokens), passage()])
    sink.close()

    index = PassageIndex.load(tmp_path / "i")
    assert [failure.id for failure in failures] == ["b"]
    assert len(index.token_codes([0])[0]) == 3
    assert index.passages[0] == {"text": "some text", "id": "a"}


def test_only_the_kept_fields_are_metadata(tmp_path):
    """Fields that keep does not name stay out of the index."""
    sink = WriteIndex(str(tmp_path / "i"), keep=["title"])
    sink.open()
    sink.write(["a"], [passage(title="One", secret="no")])
    sink.close()

    assert PassageIndex.load(tmp_path / "i").passages[0].keys() == {"id", "text", "title"}
    assert list(sink.reads) == ["text", "embedding", "title"]


def test_failures_stand_beside_the_folder(tmp_path):
    """Failed records are a file of their own, which is there when the index is."""
    sink = WriteIndex(str(tmp_path / "i"))
    sink.open()
    sink.write(["a"], [passage()])
    sink.write_failures([Failure("b", "embed", "ValueError", "no text")])
    sink.close()

    rows = [json.loads(line) for line in (tmp_path / "i.failed.jsonl").open()]

    assert [row["id"] for row in rows] == ["b"]


def test_an_aborted_build_leaves_no_index(tmp_path):
    """Half an index is of no use; the failures are kept and named."""
    sink = WriteIndex(str(tmp_path / "i"))
    sink.open()
    sink.write(["a"], [passage()])
    sink.write_failures([Failure("b", "embed", "ValueError", "no text")])

    kept = sink.abort()

    assert "1 failed" in kept
    assert [path.name for path in tmp_path.iterdir()] == ["i.failed.jsonl.partial"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kind": "hsnw"}, "did you mean 'hnsw'"), ({"path": "/no/such/place/i"}, "missing")],
)
def test_check_refuses_before_any_work(tmp_path, options, message):
    """Unknown kinds and impossible places are found on the driver."""
    with pytest.raises(SinkError, match=message):
        WriteIndex(**{"path": str(tmp_path / "i"), **options}).check()


def test_an_open_sink_travels_as_declared(tmp_path):
    """Pickling carries the configuration and no open file."""
    sink = WriteIndex(str(tmp_path / "i"))
    sink.open()

    arrived = pickle.loads(pickle.dumps(sink))
    sink.abort()

    assert arrived == sink
    assert arrived.abort() == ""
