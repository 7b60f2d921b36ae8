from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sage_dask.errors import PlanError
from sage_dask.operators.arrays import unit_rows
from sage_dask.operators.retrieval.vectors import KINDS, VECTORS, VectorIndex, build_vectors

pytestmark = pytest.mark.rag

WIDTH = 16


@pytest.fixture(scope="module")
def corpus():
    draw = np.random.default_rng(7)
    return unit_rows(draw.standard_normal((600, WIDTH)).astype(np.float32))


@pytest.fixture(scope="module")
def queries():
    draw = np.random.default_rng(8)
    return unit_rows(draw.standard_normal((40, WIDTH)).astype(np.float32))


@pytest.fixture(scope="module")
def folders(corpus, tmp_path_factory):
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    for kind, folder in folders.items():
        build_vectors(corpus, kind, folder)
    return folders


def exact(corpus, queries, k):
    return np.argsort(-(queries @ corpus.T), axis=1, kind="stable")[:, :k]


def recall(found, wanted):
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted, strict=True)])


def test_flat_is_brute_force(folders, corpus, queries):
    """The exact kind returns the rows and scores of a full product, best first."""
    scores, rows = VectorIndex(folders["flat"], "flat").search(queries, 5)

    np.testing.assert_array_equal(rows, exact(corpus, queries, 5))
    products = np.take_along_axis(queries @ corpus.T, rows, axis=1)
    np.testing.assert_allclose(scores, products, atol=1e-5)


@pytest.mark.parametrize(("kind", "option"), [("hnsw", {"ef": 200}), ("ivf", {"nprobe": 15})])
def test_approximate_kinds_get_exact_when_asked_to_look_everywhere(
    folders, corpus, queries, kind, option
):
    """With a large enough ef, or all cells, nothing is missed."""
    _, rows = VectorIndex(folders[kind], kind).search(queries, 5, **option)

    assert recall(rows, exact(corpus, queries, 5)) == 1.0


@pytest.mark.parametrize(("kind", "least"), [("hnsw", 0.95), ("ivf", 0.7)])
def test_approximate_kinds_find_most_by_default(folders, corpus, queries, kind, least):
    """Without options most of the exact answers are found, even among random vectors."""
    _, rows = VectorIndex(folders[kind], kind).search(queries, 5)

    assert recall(rows, exact(corpus, queries, 5)) >= least


def test_one_cell_finds_less_than_all(folders, corpus, queries):
    """The option reaches the search: one cell misses what all cells find."""
    _, rows = VectorIndex(folders["ivf"], "ivf").search(queries, 5, nprobe=1)

    assert recall(rows, exact(corpus, queries, 5)) < 0.9


def test_more_than_there_are_means_all(folders, queries):
    """Asking for more passages than there are gives each once."""
    _, rows = VectorIndex(folders["flat"], "flat").search(queries[:2], 10_000)

    assert rows.shape == (2, 600)
    assert set(rows[0].tolist()) == set(range(600))


def test_threads_do_not_disturb_each_other(folders, queries):
    """Searches from several threads at once give what they give one by one."""
    index = VectorIndex(folders["ivf"], "ivf")
    alone = {n: index.search(queries, 5, nprobe=n)[1] for n in (1, 15)}

    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda n: (n, index.search(queries, 5, nprobe=n)[1]), [1, 15] * 10)
        )

    for nprobe, rows in together:
        np.testing.assert_array_equal(rows, alone[nprobe])


@pytest.mark.parametrize("shape", [(3, WIDTH + 1), (WIDTH,)])
def test_a_wrong_shape_is_refused(folders, shape):
    """The message names what was given and the width that is wanted."""
    index = VectorIndex(folders["flat"], "flat")

    with pytest.raises(ValueError, match=rf"shape \({shape[0]},.*\(q, {WIDTH}\)"):
        index.search(np.zeros(shape, np.float32), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_corpus_of_one_can_be_indexed(tmp_path, kind):
    """The smallest corpus has every kind of index."""
    build_vectors(np.ones((1, WIDTH), np.float32), kind, tmp_path)

    _, rows = VectorIndex(tmp_path, kind).search(np.ones((1, WIDTH), np.float32), 3)

    assert rows.tolist() == [[0]]


def test_a_damaged_file_is_a_plan_error(tmp_path):
    """A file that FAISS can not read says which index to build again."""
    (tmp_path / VECTORS).write_bytes(b"no index at all, but some bytes")

    with pytest.raises(PlanError, match="damaged"):
        VectorIndex(tmp_path, "flat")
