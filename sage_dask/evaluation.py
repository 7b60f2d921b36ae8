"""How good a ranking is, given what was relevant: recall and reciprocal rank.

Pure functions of lists of ids, so that a ranking before and after reranking,
or of two pipelines, can be compared on the same questions.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

RECALL_DEPTHS = (1, 5, 10)


def recall_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Return which share of the relevant ids is among the first ``k`` of a ranking.

    Args:
        ranked: Ids, best first.
        relevant: Ids that should be found; at least one.
        k: How far down to look, at least 1.

    Raises:
        ValueError: Nothing is relevant, or ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"k={k} must be at least 1")
    wanted = _wanted(relevant)
    return len(wanted.intersection(ranked[:k])) / len(wanted)


def reciprocal_rank(ranked: Sequence[Hashable], relevant: Collection[Hashable]) -> float:
    """Return one over the rank of the first relevant id, from 1; 0.0 if none was found.

    Raises:
        ValueError: Nothing is relevant.
    """
    wanted = _wanted(relevant)
    return next((1 / rank for rank, name in enumerate(ranked, start=1) if name in wanted), 0.0)


def _wanted(relevant: Collection[Hashable]) -> set[Hashable]:
    if not relevant:
        raise ValueError("no id is relevant, so no ranking can be judged; leave such queries out")
    return set(relevant)


@dataclass(frozen=True, slots=True)
class RetrievalScore:
    """Means over all queries of one system."""

    num_queries: int
    recall: Mapping[int, float]
    """By depth."""
    mrr: float
    """Mean reciprocal rank, over the whole of each ranking that was given."""

    @classmethod
    def of(
        cls,
        rankings: Sequence[Sequence[Hashable]],
        relevant: Sequence[Collection[Hashable]],
        depths: Sequence[int] = RECALL_DEPTHS,
    ) -> RetrievalScore:
        """Score rankings against what was relevant, query by query.

        Raises:
            ValueError: There are no queries, or not one set of relevant ids for each.
        """
        if not rankings or len(rankings) != len(relevant):
            raise ValueError(
                f"{len(rankings)} rankings and {len(relevant)} sets of relevant ids; "
                "give one of each per query, for at least one query"
            )
        pairs = list(zip(rankings, relevant, strict=True))
        return cls(
            num_queries=len(pairs),
            recall={k: fmean(recall_at(*pair, k) for pair in pairs) for k in depths},
            mrr=fmean(reciprocal_rank(*pair) for pair in pairs),
        )


def retrieval_table(scores: Mapping[str, RetrievalScore]) -> str:
    """Write scores as a text table, one line per system, such as before and after reranking.

    Raises:
        ValueError: The systems were scored at different depths, or there are none.
    """
    depths = {tuple(score.recall) for score in scores.values()}
    if len(depths) != 1:
        raise ValueError(f"{len(depths)} different lists of depths; score all systems at the same")
    head = ["", *(f"recall@{depth}" for depth in depths.pop()), "MRR", "queries"]
    lines = [
        [name, *map("{:.3f}".format, (*score.recall.values(), score.mrr)), f"{score.num_queries}"]
        for name, score in scores.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    return "\n".join(_row(cells, widths) for cells in (head, *lines))


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Set the name to the left and the numbers to the right."""
    name, *numbers = (
        cell.ljust(width) if place == 0 else cell.rjust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((name, *numbers)).rstrip()
