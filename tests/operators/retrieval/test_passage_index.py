from __future__ import annotations

import threading

import numpy as np
import pytest

from sage_dask.errors import PlanError
from sage_dask.operators.arrays import unit_rows
from sage_dask.operators.retrieval.passage_index import PassageIndex
from sage_dask.operators.retrieval.writer import IndexWriter

pytestmark = pytest.mark.rag

DRAW = np.random.default_rng(3)
VECTORS = unit_rows(DRAW.standard_normal((50, 8)).astype(np.float32))
TOKENS = [unit_rows(DRAW.standard_normal((1 + n % 5, 8)).astype(np.float32)) for n in range(50)]


def build(path, **options):
    tokens = TOKENS if options.get("tokens") else None
    with IndexWriter(path, model="fake", **options) as writer:
        passages = [{"text": f"passage number {n}", "n": n} for n in range(50)]
        writer.add([f"p{n}" for n in range(50)], passages, VECTORS, tokens)
    return path


def test_every_passage_finds_itself(tmp_path):
    """The nearest passage to a passage's own vector is that passage, with score 1."""
    index = PassageIndex.load(build(tmp_path / "i"))

    scores, rows = index.search(VECTORS, 3)

    np.testing.assert_array_equal(rows[:, 0], np.arange(50))
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-5)
    assert index.passages[7] == {"id": "p7", "text": "passage number 7", "n": 7}


def test_a_process_opens_an_index_once(tmp_path):
    """Threads and different spellings of a path share one instance."""
    path = build(tmp_path / "i")
    spellings = [path, str(path), tmp_path / "." / "i", tmp_path / "x" / ".." / "i"] * 2
    together = threading.Barrier(8)
    opened = []

    def open_it(spelling):
        together.wait(timeout=10)
        opened.append(PassageIndex.load(spelling))

    threads = [threading.Thread(target=open_it, args=(spelling,)) for spelling in spellings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)

    assert len(opened) == 8
    assert len(set(map(id, opened))) == 1


def test_stored_tokens_are_those_of_the_passage(tmp_path):
    """Token codes of a row stand for that passage's token vectors."""
    index = PassageIndex.load(build(tmp_path / "i", tokens=True))
    codec = index.tokens.codec

    for row in (0, 4, 49):
        cosines = codec.query(TOKENS[row]) @ index.token_codes([row])[0].T.astype(np.float32)
        np.testing.assert_allclose(cosines, TOKENS[row] @ TOKENS[row].T, atol=0.02)


def test_words_are_found_where_they_were_indexed(tmp_path):
    """The BM25 side answers with rows of the same passages."""
    index = PassageIndex.load(build(tmp_path / "i", bm25=True))

    assert index.lexical.search("number 31", 1) == [31]


def test_what_was_not_built_is_refused(tmp_path):
    """Asking for tokens or words of an index without them says how to build them."""
    index = PassageIndex.load(build(tmp_path / "i"))

    with pytest.raises(PlanError, match="no token vectors"):
        _ = index.tokens
    with pytest.raises(PlanError, match="bm25=True"):
        _ = index.lexical


def test_verify_finds_one_changed_byte(tmp_path):
    """A flipped bit keeps the size, so only reading finds it."""
    index = PassageIndex.load(build(tmp_path / "i", tokens=True))
    index.verify()
    file = tmp_path / "i" / "tokens.int8"
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)

    with pytest.raises(PlanError, match=r"'tokens\.int8' has SHA-256"):
        index.verify()


def test_the_repr_tells_what_is_inside(tmp_path):
    """An index in a debugger shows size, kind, width and model."""
    index = PassageIndex.load(build(tmp_path / "i", kind="hnsw", tokens=True, bm25=True))

    assert repr(index) == (
        "<PassageIndex 'i': 50 passages, hnsw, 8-d of 'fake', 150 token vectors, bm25>"
    )
