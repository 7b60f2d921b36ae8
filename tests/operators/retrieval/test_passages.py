from __future__ import annotations

import pytest

from sage_dask.operators.retrieval.passages import PassageStore, PassageWriter, encode_passage

PASSAGES = [
    {"id": "a", "text": "plain"},
    {"id": "b", "text": "zwei\nZeilen, naïve 漢字", "year": 2024, "tags": ["x", None]},
    {"id": "c", "text": "last"},
]


@pytest.fixture
def store(tmp_path):
    writer = PassageWriter(tmp_path)
    writer.add([encode_passage(PASSAGES[0])])
    writer.add([encode_passage(passage) for passage in PASSAGES[1:]])
    writer.close()
    return PassageStore(tmp_path)


def test_passages_come_back_by_row(store):
    """Any row can be read alone, with its metadata, newlines and foreign letters."""
    assert [store[row] for row in (2, 0, 1)] == [PASSAGES[2], PASSAGES[0], PASSAGES[1]]


def test_a_store_is_a_sequence(store):
    """It has a length and can be walked from the first to the last."""
    assert len(store) == 3
    assert list(store) == PASSAGES


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_outside_is_refused(store, row):
    """Row -1, which FAISS uses for "none", must not read the last passage."""
    with pytest.raises(IndexError, match=r"outside 0\.\.2"):
        store[row]


def test_what_json_can_not_hold_is_refused():
    """Metadata without a JSON form raises before anything is written."""
    with pytest.raises(TypeError):
        encode_passage({"id": "a", "text": "t", "when": object()})
    with pytest.raises(ValueError, match="surrogates"):
        encode_passage({"id": "a", "text": "\ud800"})
