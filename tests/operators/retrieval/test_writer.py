from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

from sage_dask.errors import SinkError
from sage_dask.operators.retrieval.passage_index import PassageIndex
from sage_dask.operators.retrieval.writer import IndexWriter

pytestmark = pytest.mark.rag

KILLED_BUILD = """
import os, signal, sys
import numpy as np
from sage_dask.operators.retrieval.writer import IndexWriter

writer = IndexWriter(sys.argv[1], model="m")
writer.add(["a"], [{"text": "t"}], np.ones((1, 4), np.float32))
if sys.argv[2] == "building":
    import sage_dask.operators.retrieval.writer as module
    module.build_vectors = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    writer.finish()
os.kill(os.getpid(), signal.SIGKILL)
"""


def add(writer, *names):
    vectors = np.arange(len(names) * 4, dtype=np.float32).reshape(-1, 4) + 1
    writer.add(names, [{"text": f"text of {name}"} for name in names], vectors)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_batches_become_one_index(tmp_path):
    """Passages added in several calls are searched as one corpus, under the one name."""
    path = tmp_path / "corpus.index"
    with IndexWriter(path, model="m") as writer:
        add(writer, "a", "b")
        add(writer, "c")
        assert len(writer) == 3

    index = PassageIndex(path)

    assert [passage["id"] for passage in index.passages] == ["a", "b", "c"]
    assert index.passages[2]["text"] == "text of c"
    assert names_in(tmp_path) == ["corpus.index"]


def test_the_raw_vectors_do_not_stay(tmp_path):
    """What was only needed while building is not part of the index."""
    with IndexWriter(tmp_path / "i", model="m") as writer:
        add(writer, "a")

    assert names_in(tmp_path / "i") == [
        "manifest.json",
        "passages.jsonl",
        "passages.offsets.npy",
        "vectors.faiss",
    ]


def test_an_error_in_the_block_leaves_nothing(tmp_path):
    """A build that raises removes what it wrote, and its error is the one seen."""

    def build():
        with IndexWriter(tmp_path / "i", model="m") as writer:
            add(writer, "a")
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        build()

    assert names_in(tmp_path) == []


@pytest.mark.parametrize("moment", ["adding", "building"])
def test_a_killed_build_is_no_index(tmp_path, moment):
    """A build that is killed leaves no folder of the index's name, and the next build succeeds."""
    path = tmp_path / "corpus.index"

    done = subprocess.run(
        [sys.executable, "-c", KILLED_BUILD, str(path), moment], check=False, timeout=100
    )
    left = names_in(tmp_path)
    with IndexWriter(path, model="m") as writer:
        add(writer, "a")

    assert done.returncode == -signal.SIGKILL
    assert [name.partition("building-")[0] for name in left] == ["corpus.index."]
    assert len(PassageIndex(path)) == 1


def test_an_index_is_not_replaced_unasked(tmp_path):
    """A name that is taken is refused at once, and the index that has it stays."""
    with IndexWriter(tmp_path / "i", model="first") as writer:
        add(writer, "a")

    with pytest.raises(SinkError, match="overwrite=True"):
        IndexWriter(tmp_path / "i", model="second")

    assert PassageIndex(tmp_path / "i").manifest.model == "first"
    assert names_in(tmp_path) == ["i"]


def test_an_index_is_replaced_when_asked(tmp_path):
    """With overwrite the new index takes the name, and who asks again gets the new one."""
    for model in ("first", "second"):
        with IndexWriter(tmp_path / "i", model=model, overwrite=True) as writer:
            add(writer, "a")
        loaded = PassageIndex.load(tmp_path / "i")
        assert loaded.manifest.model == model

    assert names_in(tmp_path) == ["i"]


def test_no_passages_are_no_index(tmp_path):
    """An index that nothing could be found in is an error, and leaves nothing."""
    writer = IndexWriter(tmp_path / "i", model="m")

    with pytest.raises(SinkError, match="no passage arrived"):
        writer.finish()

    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("ids", "passages", "vectors", "tokens"),
    [
        (["a", "b"], [{"text": "t"}], np.ones((1, 4)), None),
        (["a"], [{"text": "t"}], np.ones((2, 4)), None),
        (["a"], [{"text": "t"}], np.ones(4), None),
        (["a"], [{"text": "t"}], np.ones((1, 5)), None),
        (["a"], [{"text": "t"}], np.ones((1, 4)), [np.ones((2, 4))]),
    ],
)
def test_what_does_not_belong_together_is_refused_whole(tmp_path, ids, passages, vectors, tokens):
    """Unequal numbers, widths, or tokens that were not announced add nothing at all."""
    with IndexWriter(tmp_path / "i", model="m") as writer:
        add(writer, "first")
        with pytest.raises(ValueError, match=r"disagrees|belong together|one model"):
            writer.add(ids, passages, vectors, tokens)
        add(writer, "last")

    assert [p["id"] for p in PassageIndex(tmp_path / "i").passages] == ["first", "last"]


def test_the_manifest_says_what_was_built(tmp_path):
    """Model, width, kind and counts can be read without any package of ours."""
    vectors = np.eye(4, dtype=np.float32)
    texts = [{"text": f"t{n}"} for n in range(4)]
    with IndexWriter(tmp_path / "i", model="m", kind="hnsw", tokens=True, bm25=True) as writer:
        writer.add(list("abcd"), texts, vectors, [vectors[:2]] * 4)

    manifest = json.loads((tmp_path / "i" / "manifest.json").read_text())

    assert {key: manifest[key] for key in ("model", "dimension", "kind", "num_passages")} == {
        "model": "m",
        "dimension": 4,
        "kind": "hnsw",
        "num_passages": 4,
    }
    assert manifest["num_tokens"] == 8
    assert manifest["bm25"] is True
    assert "bm25/vocab.index.json" in manifest["files"]


def test_token_vectors_have_one_width(tmp_path):
    """Token vectors of another width are refused, early or late, and leave no trace."""
    one = np.ones((1, 4), np.float32)
    wide = np.ones((2, 5), np.float32)
    with IndexWriter(tmp_path / "i", model="m", tokens=True) as writer:
        writer.add(["a"], [{"text": "t"}], one, [one])
        for bad in (wide, np.ones(4, np.float32)):
            with pytest.raises(ValueError, match=r"one d for the whole index"):
                writer.add(["b"], [{"text": "t"}], one, [bad])
        writer.add(["c"], [{"text": "t"}], one, [np.concatenate([one, one])])

    index = PassageIndex(tmp_path / "i")
    assert [passage["id"] for passage in index.passages] == ["a", "c"]
    assert [len(codes) for codes in index.token_codes([0, 1])] == [1, 2]


def test_a_full_disk_leaves_no_folder(tmp_path):
    """An index that finds no room is told of once, and nothing of it stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = IndexWriter(tmp_path / "i", model="m")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
        with pytest.raises(SinkError, match="disk full writing"):
            add(writer, *map(str, range(2000)))
        writer.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert names_in(tmp_path) == []
