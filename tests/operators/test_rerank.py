from __future__ import annotations

import pickle

import numpy as np
import pytest

from sage_dask import aio
from sage_dask.completion import CompletionError
from sage_dask.errors import PlanError, SetupError
from sage_dask.operators.rerank import Rerank
from sage_dask.operators.retrieval.writer import IndexWriter

TEXTS = ["a dog", "the cat and the dog", "the cat", "a bird", "cat"]


def passages(*texts):
    return [
        {"id": f"p{n}", "text": text, "score": 1.0 - n / 10, "rank": n + 1}
        for n, text in enumerate(texts)
    ]


def ready(**options):
    stage = Rerank(**options)
    stage.check()
    stage.setup()
    return stage


def test_the_best_come_first_and_keep_their_retrieval_score():
    """Passages are cut to k, sorted by the new score, and keep score and rank."""
    stage = ready(method="bm25", k=2)

    (record,) = stage.process_batch([{"question": "cat", "passages": passages(*TEXTS)}])

    kept = record["passages"]
    assert [passage["id"] for passage in kept] == ["p4", "p2"]
    assert kept[0]["rerank_score"] > kept[1]["rerank_score"] > 0
    assert (kept[0]["score"], kept[0]["rank"]) == (0.6, 5)


def test_equal_scores_keep_the_order_of_the_retrieval():
    """Sorting is stable: what the method can not tell apart stays as it was."""
    record = {"question": "zebra cat", "passages": passages(*["a dog", "the cat"] * 50)}

    (reranked,) = ready(method="bm25", k=100).process_batch([record])

    evens_after_odds = [f"p{n}" for n in (*range(1, 100, 2), *range(0, 100, 2))]
    assert [passage["id"] for passage in reranked["passages"]] == evens_after_odds


def test_the_record_given_is_not_changed():
    """A new record with new passages comes out; the old one can be tried again."""
    record = {"question": "cat", "passages": passages(*TEXTS), "other": 1}

    (reranked,) = ready(method="rrf", k=1).process_batch([record])

    assert record == {"question": "cat", "passages": passages(*TEXTS), "other": 1}
    assert reranked["other"] == 1


def test_nothing_found_stays_nothing():
    """A record whose retrieval found nothing is no failure."""
    (record,) = ready(method="bm25").process_batch([{"question": "cat", "passages": []}])

    assert record["passages"] == []


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"question": "cat"}, "'passages' must hold a list"),
        ({"question": "cat", "passages": "text"}, "found str"),
        ({"question": "cat", "passages": [{"id": "a"}]}, "with a 'text'"),
        ({"question": "", "passages": []}, "'question' must hold a text"),
        ({"passages": []}, "no such field"),
    ],
)
def test_a_record_that_can_not_be_reranked_fails_alone(record, message):
    """The error names the field; the neighbour is reranked."""
    good = {"question": "cat", "passages": passages(*TEXTS)}

    fine, bad = ready(method="bm25").process_batch([good, record])

    assert fine["passages"][0]["id"] == "p4"
    assert isinstance(bad, ValueError)
    assert message in str(bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "maxsin"}, "did you mean 'maxsim'"),
        ({"k": 0}, "k=0 must be"),
        ({"cache_size": 0}, "cache_size=0"),
        ({"method": "cross-encoder"}, "no cross-encoder"),
        ({"method": "bm25", "index": "i"}, "index= is for method='maxsim'"),
        ({"method": "rrf", "query_tokens": "t"}, "query_tokens= is for"),
        ({"index": "/no/such.index"}, "does not exist"),
    ],
)
def test_check_refuses_before_any_work(options, message):
    """Options that do not go together are found on the driver."""
    with pytest.raises(PlanError, match=message):
        Rerank(**options).check()


def test_only_the_declaration_travels():
    """A stage that was set up pickles without its scorer, and says so when used."""
    stage = ready(method="bm25")

    arrived = pickle.loads(pickle.dumps(stage))

    assert arrived == stage
    with pytest.raises(SetupError, match="Rerank"):
        arrived.process_batch([{"question": "cat", "passages": passages(*TEXTS)}])


def test_what_is_read_and_written_is_declared():
    """A plan can see which fields the stage needs."""
    stage = Rerank(query="q", passages="found", query_tokens="q_tokens")

    assert stage.reads == ("q", "found", "q_tokens")
    assert stage.writes == ("found",)


@pytest.mark.rag
def test_an_index_without_the_right_tokens_is_refused(tmp_path):
    """No token vectors, or those of another model, can not score."""
    one = np.ones((1, 4), np.float32)
    with IndexWriter(tmp_path / "bare", model="minilm") as writer:
        writer.add(["a"], [{"text": "t"}], one)
    with IndexWriter(tmp_path / "other", model="bge", tokens=True) as writer:
        writer.add(["a"], [{"text": "t"}], one, [one])

    with pytest.raises(PlanError, match="no token vectors"):
        Rerank(index=str(tmp_path / "bare")).check()
    with pytest.raises(PlanError, match="token vectors of 'bge'"):
        Rerank(index=str(tmp_path / "other")).check()


@pytest.mark.rag
def test_meaning_wins_over_position():
    """Late interaction puts the passage that answers first, whatever the retrieval said."""
    found = passages(
        "Bread is baked in an oven.",
        "The tallest mountain on Earth is Mount Everest.",
        "Cars need fuel.",
    )

    (record,) = ready(k=2).process_batch(
        [{"question": "Which mountain is the highest?", "passages": found}]
    )

    assert record["passages"][0]["id"] == "p1"
    assert len(record["passages"]) == 2


@pytest.mark.rag
def test_stored_and_fresh_tokens_agree(tmp_path):
    """Embedding, indexing and reranking with stored tokens ranks as encoding anew does."""
    from sage_dask.operators.embed import Embed
    from sage_dask.operators.retrieve import Retrieve
    from sage_dask.operators.write_index import WriteIndex

    embed = Embed(text="text", tokens_into="tokens")
    embed.setup()
    corpus = [{"text": f"{text} number {n}"} for n, text in enumerate(TEXTS * 3)]
    sink = WriteIndex(str(tmp_path / "i"), tokens="tokens")
    sink.open()
    sink.write([f"p{n}" for n in range(15)], embed.process_batch(corpus))
    sink.close()
    ask = Embed(text="question", tokens_into="q_tokens")
    ask.setup()
    retrieve = Retrieve(index=str(tmp_path / "i"), k=10)
    retrieve.setup()
    records = retrieve.process_batch(ask.process_batch([{"question": "which cat?"}]))

    (fresh,) = ready(k=10).process_batch(records)
    (kept,) = ready(k=10, index=str(tmp_path / "i")).process_batch(records)
    (brought,) = ready(k=10, index=str(tmp_path / "i"), query_tokens="q_tokens").process_batch(
        records
    )

    scores = [
        {passage["id"]: passage["rerank_score"] for passage in record["passages"]}
        for record in (fresh, kept, brought)
    ]
    by_fresh, by_kept, by_brought = ([some[name] for name in scores[0]] for some in scores)
    assert np.corrcoef(by_fresh, by_kept)[0, 1] > 0.9
    np.testing.assert_allclose(by_brought, by_kept, atol=0.01)
    assert "cat" in kept["passages"][0]["text"]


@pytest.mark.rag
def test_passages_without_a_row_can_not_use_stored_tokens(tmp_path):
    """Passages from elsewhere fail alone, and the message says what to leave out."""
    one = np.ones((1, 384), np.float32)
    with IndexWriter(tmp_path / "i", model="minilm", tokens=True) as writer:
        writer.add(["a"], [{"text": "t"}], one, [one])
    stage = ready(index=str(tmp_path / "i"))

    good, bad = stage.process_batch(
        [
            {"question": "cat", "passages": [{"id": "a", "text": "t", "row": 0}]},
            {"question": "cat", "passages": passages(*TEXTS)},
        ]
    )

    assert good["passages"][0]["rerank_score"] != 0
    assert "leave index= out" in str(bad)


def scored(body):
    """Answer as a server does, best first: the longer a text the better."""
    results = [
        {"index": place, "relevance_score": len(text) / 100, "document": {"text": text}}
        for place, text in enumerate(body["documents"])
    ]
    return {"results": sorted(results, key=lambda each: -each["relevance_score"])}


def test_a_server_scores_the_passages(serve, set_up):
    """One request per record; the best are kept with their new score, ties in the old order."""
    server = serve(scored)
    stage = set_up(Rerank(endpoint=server.endpoint, model="m", k=3, extra={"truncate": 9}))
    records = [
        {"question": "cat", "passages": passages(*TEXTS, "a fish")},
        {"question": "none", "passages": []},
        {"question": "bad", "passages": "text"},
    ]

    good, empty, bad = aio.run(stage.process_batch(records))

    assert server.requests == [
        (
            "rerank",
            {"model": "m", "query": "cat", "documents": [*TEXTS, "a fish"], "truncate": 9},
        )
    ]
    assert [passage["id"] for passage in good["passages"]] == ["p1", "p2", "p3"]
    assert good["passages"][0]["rerank_score"] == pytest.approx(0.19)
    assert empty["passages"] == []
    assert "found str" in str(bad)


def test_passages_that_a_server_refuses_fail_alone(serve, set_up):
    """Its neighbours are reranked."""

    def answer(body):
        return (400, {"message": "too long"}) if body["query"] == "bad" else scored(body)

    stage = set_up(Rerank(endpoint=serve(answer).endpoint, model="m"))

    bad, good = aio.run(
        stage.process_batch(
            [{"question": query, "passages": passages(*TEXTS)} for query in ("bad", "good")]
        )
    )

    assert isinstance(bad, CompletionError)
    assert good["passages"][0]["id"] == "p1"


@pytest.mark.parametrize("option", ["index", "query_tokens"])
def test_a_server_uses_no_token_vectors(option):
    """What it could not use is refused rather than ignored."""
    with pytest.raises(PlanError, match=f"{option}= is for scoring here"):
        Rerank(endpoint="http://h/v1", model="m", **{option: "x"}).check()
