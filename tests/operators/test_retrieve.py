from __future__ import annotations

import pickle

import numpy as np
import pytest

from sage_dask.errors import PlanError, SetupError, StopRun
from sage_dask.operators.arrays import unit_rows
from sage_dask.operators.retrieval.writer import IndexWriter
from sage_dask.operators.retrieve import Retrieve

pytestmark = pytest.mark.rag

TEXTS = ["the cat", "a dog", "cat and dog", "a bird", "some fish", "the zebra"]
VECTORS = unit_rows(np.random.default_rng(5).standard_normal((6, 8)).astype(np.float32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "pets.index"
    with IndexWriter(path, model="fake", bm25=True) as writer:
        passages = [{"text": text, "source": f"page {n}"} for n, text in enumerate(TEXTS)]
        writer.add([f"p{n}" for n in range(6)], passages, VECTORS)
    return str(path)


def ready(**options):
    stage = Retrieve(**options)
    stage.check()
    stage.setup()
    return stage


def ask(row, **more):
    return {"id": "q", "embedding": VECTORS[row], **more}


def test_passages_come_best_first_with_all_that_is_known_of_them(folder):
    """Ids, text, metadata, score, rank and row of each passage, as a full product ranks them."""
    stage = ready(index=folder, k=3)

    (record,) = stage.process_batch([ask(2)])

    products = VECTORS @ VECTORS[2]
    order = np.argsort(-products)[:3]
    assert [passage["row"] for passage in record["passages"]] == order.tolist()
    best = record["passages"][0]
    assert best.pop("score") == pytest.approx(1.0, abs=1e-5)
    assert best == {"id": "p2", "text": "cat and dog", "source": "page 2", "rank": 1, "row": 2}
    scores = [passage["score"] for passage in record["passages"][1:]]
    np.testing.assert_allclose(scores, products[order[1:]], atol=1e-5)


def test_a_batch_answers_each_record_by_its_own_vector(folder):
    """Many records in one search get what they get alone, and keep their fields."""
    stage = ready(index=folder, k=2)
    records = [ask(row, number=row) for row in range(6)]

    together = stage.process_batch(records)

    assert [record["number"] for record in together] == list(range(6))
    assert [record["passages"][0]["id"] for record in together] == [f"p{n}" for n in range(6)]
    assert "passages" not in records[0]


def test_fewer_passages_than_k_are_all_given(folder):
    """A small index is no error."""
    (record,) = ready(index=folder, k=100).process_batch([ask(0)])

    assert sorted(passage["id"] for passage in record["passages"]) == [f"p{n}" for n in range(6)]


@pytest.mark.parametrize(
    "vector", [None, "text", [1.0, 2.0], np.full(8, np.nan, np.float32), np.ones((1, 8))]
)
def test_a_record_without_a_fitting_vector_fails_alone(folder, vector):
    """Its neighbours are answered; the error names the field."""
    stage = ready(index=folder)

    good, bad = stage.process_batch([ask(1), {"embedding": vector}])

    assert good["passages"][0]["id"] == "p1"
    assert isinstance(bad, ValueError)
    assert "'embedding'" in str(bad)


def test_vectors_of_another_model_end_the_run(folder):
    """If all vectors have one other width, no record can succeed; both widths are named."""
    stage = ready(index=folder)

    with pytest.raises(StopRun, match=r"width 3, but index .* has width 8, made with 'fake'"):
        stage.process_batch([{"embedding": np.ones(3, np.float32)}] * 2)


def test_hybrid_lifts_what_both_rankings_found(folder):
    """A passage that words and vectors both find comes before one that only vectors find."""
    stage = ready(index=folder, k=6, hybrid="rrf")
    dense = ready(index=folder, k=6)
    second = dense.process_batch([ask(0)])[0]["passages"][1]

    (record,) = stage.process_batch([ask(0, question=second["text"].split()[-1])])

    found = record["passages"]
    scores = [passage["score"] for passage in found]
    assert found[0]["id"] == second["id"]
    assert found[0]["score"] > 1 / 61
    assert scores == sorted(scores, reverse=True)
    assert [passage["rank"] for passage in found] == [1, 2, 3, 4, 5, 6]


def test_hybrid_gives_k_passages(folder):
    """Fusing looks deeper than k, and what it gives is cut to k."""
    (record,) = ready(index=folder, k=2, hybrid="rrf").process_batch([ask(0, question="the cat")])

    assert len(record["passages"]) == 2


def test_hybrid_without_shared_words_is_dense(folder):
    """If no passage has a word of the query, the order is that of the vectors."""
    question = {"question": "quark"}

    (fused,) = ready(index=folder, hybrid="rrf").process_batch([ask(0, **question)])
    (dense,) = ready(index=folder).process_batch([ask(0)])

    assert [p["id"] for p in fused["passages"]] == [p["id"] for p in dense["passages"]]


def test_hybrid_needs_the_query(folder):
    """The query's text is declared as read, and a record without it fails alone."""
    stage = ready(index=folder, hybrid="rrf", query="q")

    good, bad = stage.process_batch([ask(0, q="cat"), ask(0)])

    assert stage.reads == ("embedding", "q")
    assert good["passages"]
    assert "'q'" in str(bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k=0"),
        ({"hybrid": "linear"}, "'linear' is unknown"),
        ({"ef": 64}, "is for 'hnsw', but index .* is 'flat'"),
        ({"nprobe": 4}, "is for 'ivf'"),
        ({"nprobe": 0}, "at least 1"),
        ({"index": "/no/such.index"}, "does not exist"),
    ],
)
def test_check_refuses_before_any_work(folder, options, message):
    """Options that the index can not follow are found on the driver."""
    with pytest.raises(PlanError, match=message):
        Retrieve(**{"index": folder, **options}).check()


def test_hybrid_is_refused_without_bm25_files(tmp_path):
    """The message says how to build an index that has them."""
    with IndexWriter(tmp_path / "i", model="fake") as writer:
        writer.add(["a"], [{"text": "t"}], VECTORS[:1])

    with pytest.raises(PlanError, match="bm25=True"):
        Retrieve(index=str(tmp_path / "i"), hybrid="rrf").check()


def test_options_of_approximate_kinds_reach_the_search(tmp_path):
    """An ivf index that looks into one cell may find fewer than k, and never row -1."""
    vectors = unit_rows(np.random.default_rng(1).standard_normal((400, 8)).astype(np.float32))
    with IndexWriter(tmp_path / "i", model="fake", kind="ivf") as writer:
        writer.add([str(n) for n in range(400)], [{"text": "t"}] * 400, vectors)

    one, all_cells = (
        ready(index=str(tmp_path / "i"), k=390, nprobe=n).process_batch([{"embedding": vectors[0]}])
        for n in (1, 10)
    )

    assert 0 < len(one[0]["passages"]) < len(all_cells[0]["passages"]) == 390
    assert min(passage["row"] for passage in one[0]["passages"]) >= 0


def test_only_the_declaration_travels(folder):
    """A stage that was set up pickles small, without its index, and says so when used."""
    stage = ready(index=folder)

    data = pickle.dumps(stage)
    arrived = pickle.loads(data)

    assert arrived == stage
    assert len(data) < 1000
    with pytest.raises(SetupError, match="Retrieve"):
        arrived.process_batch([ask(0)])


def test_an_empty_batch_is_no_work(folder):
    """No records in, no records out."""
    assert ready(index=folder).process_batch([]) == []
