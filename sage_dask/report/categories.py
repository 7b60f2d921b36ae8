"""The latency in the categories of the SAGE evaluation's breakdown of a RAG pipeline.

Its table knows seven; what belongs to none of them has a row of its own here,
and so has the residue, so that the rows add up to the latency.
"""

from __future__ import annotations

from collections.abc import Mapping

from sage_dask import spent
from sage_dask.breakdown import DASK, RESIDUE, SETUP, TRANSFER, TURN, Breakdown, Part

SCHEDULING = "scheduling"
QUEUE_WAIT = "queue wait"
EMBED, RETRIEVE, RERANK, GENERATE = "embed", "retrieve", "rerank", "generate"
OTHER = "other"

# In the order of the table.
MEANINGS: Mapping[str, str] = {
    SCHEDULING: "the dispatcher's own time",
    QUEUE_WAIT: "waiting for nodes, gates, quotas, threads, and for a turn to be sent",
    EMBED: "stages of that name, or whose name begins so",
    RETRIEVE: "likewise",
    RERANK: "likewise",
    GENERATE: "likewise, without the wait for a turn; a model server's own queue is within",
    TRANSFER: "reading, packing, moving, unpacking, returning and writing",
    OTHER: "all other stages, set-up on workers that joined late, and workers that died",
    RESIDUE: "what nobody accounts for",
}

_CATEGORIES: Mapping[str, str] = {
    spent.SCHEDULING: SCHEDULING,
    spent.NODE: QUEUE_WAIT,
    spent.GATE: QUEUE_WAIT,
    spent.QUOTA: QUEUE_WAIT,
    spent.POLICY: QUEUE_WAIT,
    spent.QUEUE: QUEUE_WAIT,
    DASK: QUEUE_WAIT,
    spent.ADMISSION: TRANSFER,
    TRANSFER: TRANSFER,
    spent.INPUTS: TRANSFER,
    spent.PACKING: TRANSFER,
    spent.RETURN: TRANSFER,
    spent.COMMIT: TRANSFER,
    SETUP: OTHER,
    spent.LOST: OTHER,
    RESIDUE: RESIDUE,
}

_STAGES = (EMBED, RETRIEVE, RERANK, GENERATE)


def categories(breakdown: Breakdown) -> Mapping[str, float]:
    """Return mean seconds per record by category, in the order of the table.

    They add up to the latency.  Nothing where it was not measured.
    """
    if not breakdown.num_records:
        return {}
    sums = dict.fromkeys(MEANINGS, 0.0)
    for part in breakdown.parts:
        if part.is_stage:
            turn_s = sum(each.seconds for each in part.parts if each.name == TURN)
            sums[QUEUE_WAIT] += turn_s
            sums[_category_of_stage(part)] += part.seconds - turn_s
        else:
            sums[_CATEGORIES[part.name]] += part.seconds
    return sums


def _category_of_stage(part: Part) -> str:
    return next((name for name in _STAGES if part.name.lower().startswith(name)), OTHER)
