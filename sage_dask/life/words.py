"""A record's life in sentences, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sage_dask.breakdown import RESIDUE, Part
from sage_dask.life.facts import BEGUN, CUT_OFF, DROPPED, FAILED, WRITTEN, Fate, Life, Passage, Rank
from sage_dask.life.way import at, in_a_row, way
from sage_dask.metrics import duration
from sage_dask.plan import WRITE

_IN_SHORT = {
    WRITTEN: "written",
    FAILED: "failed",
    DROPPED: "dropped",
    BEGUN: "under way as far as its run has told",
    CUT_OFF: "not done",
}


def sentences(life: Life, *, is_held: bool | None, failed_file: str = "") -> Iterator[str]:
    """Yield a life as lines for people.

    Args:
        life: Of a record that is known.
        is_held: Whether a process runs its run now; None where nobody can know.
        failed_file: Where the record stands as it was read, if it failed; empty for nowhere yet.
    """
    yield f"record {life.record!r} of pipeline {life.pipeline!r}: {in_short(life)}"
    if life.record != life.asked:
        yield (
            f"{life.asked!r} is not the id of a record that was read. Expansions call what a "
            f"record becomes after it, so this is what is known of {life.record!r}."
        )
    for before, passage in zip((None, *life.passages), life.passages, strict=False):
        if before is None or before.start != passage.start:
            yield f"Start {passage.start} of the run, job {passage.job}, {passage.started_at}:"
        yield from (f"  {line}" for line in way(passage, before))
        yield from (f"  {line}" for line in _end(passage, life, is_held=is_held))
    for refusal in life.refusals:
        yield f"A row with this id never set out: {refusal}."
    if life.passages and life.rank is not None:
        yield from _compared(life.passages[-1], life.rank)
    yield from _fate(life, failed_file)
    if not (life.passages or life.refusals) and life.fate is not None:
        yield "When and where is not known: an older version ran it, whose events tell no ids."


def in_short(life: Life) -> str:
    """Return what became of a record, in a few words."""
    fate = life.fate
    if fate is not None:
        return _fate_in_short(fate)
    if not life.passages:
        return "refused as it was read"
    last = life.passages[-1]
    if life.has_journal and last.end not in (BEGUN, CUT_OFF):
        return f"{_IN_SHORT[last.end]} in start {last.start}, and taken back since"
    return _IN_SHORT[last.end]


def _fate_in_short(fate: Fate) -> str:
    numbers = {
        "written": len(fate.written),
        "failed": len(fate.failures),
        "dropped": fate.num_filtered,
    }
    total = sum(numbers.values())
    said = [(word, number) for word, number in numbers.items() if number]
    if len(said) == 1:
        return said[0][0] if total == 1 else f"expanded into {total:,}, all {said[0][0]}"
    return f"expanded into {total:,}: {in_a_row([f'{n:,} {word}' for word, n in said])}"


def _end(passage: Passage, life: Life, *, is_held: bool | None) -> Iterator[str]:
    if passage.end == BEGUN:
        yield from _underway(passage, is_held=is_held)
    elif passage.end == CUT_OFF:
        why = _stopped(passage.stopped_by)
        yield f"It was not back when {why}, at {at(passage.news_s)} or later."
    elif passage.done_s is not None and passage.latency_s is not None:
        did = "committed" if life.has_journal else "written"
        took = f"{duration(passage.latency_s)} after its reading began"
        yield f"Its batch was {did} at {at(passage.done_s)}, {took}."
        # A journal tells exactly, of the last one.
        if life.fate is None or passage is not life.passages[-1]:
            yield from _end_told(passage)


def _end_told(passage: Passage) -> Iterator[str]:
    """Yield what the events alone say became of the record."""
    if passage.end == FAILED:
        part = "It, or a record that it became," if passage.is_partial else "It"
        yield f"{part} failed in {passage.failure}"
    elif passage.end == DROPPED:
        yield f"{'It, or a part of it,' if passage.is_partial else 'It'} was dropped by a filter."


def _underway(passage: Passage, *, is_held: bool | None) -> Iterator[str]:
    if is_held is False:
        yield f"It was not back when the run was killed, at {at(passage.news_s)} or later."
        return
    killed = "" if is_held else ", unless the run was killed"
    yield f"Not back by {at(passage.news_s)}, the latest news of the run: under way{killed}."
    if passage.keys:
        yield "Its scheduler can tell where, by the keys of what it has yet to pass:"
        yield from (f'  sage-dask why "{key}" --scheduler ADDRESS' for key in passage.keys)


def _compared(passage: Passage, rank: Rank) -> Iterator[str]:
    """Yield where most of the latency went, and how it compares with others."""
    latency_s = passage.latency_s
    if not latency_s:
        return
    if passage.breakdown.parts:
        most = max(passage.breakdown.parts, key=lambda part: part.seconds)
        share = most.seconds / latency_s
        took = f"{duration(most.seconds)}, {share:.0%}"
        yield f"The largest part of its time went {_into(most)}: {took}."
    if rank.num_records:
        yield (
            f"It was slower than {rank.share_below:.0%} of the {rank.num_records:,} records that "
            f"the run wrote (P{rank.share_below * 100:.0f}), and their median is "
            f"{duration(rank.median_s)}."
        )


def _into(part: Part) -> str:
    if part.is_stage:
        return f"into stage {part.name!r}"
    return "where nobody measures" if part.name == RESIDUE else f"into {part.meaning}"


def _fate(life: Life, failed_file: str) -> Iterator[str]:
    """Yield what the journal knows beyond the events."""
    fate = life.fate
    if fate is None:
        if life.passages and life.passages[-1].end == FAILED and failed_file:
            yield f"Its input is in {failed_file}."
        return
    if len(fate.written) > 1:
        yield f"It was written as {_ids(fate.written)}."
    if fate.num_filtered:
        became = fate.num_filtered + len(fate.failures) + len(fate.written)
        some = f"{fate.num_filtered:,} of the {became:,} that it became" if became > 1 else "It"
        yield f"{some} {'were' if fate.num_filtered > 1 else 'was'} dropped by a filter."
    was_written = bool(life.passages) and life.passages[-1].end == WRITTEN
    for failure in fate.failures:
        name = "It" if failure.id == life.record else repr(failure.id)
        where = (
            "was refused by the output as it was exported"
            if was_written and failure.stage == WRITE
            else f"failed in stage {failure.stage!r}"
        )
        tries = f" after {failure.attempts} tries" if failure.attempts > 1 else ""
        yield f"{name} {where}{tries}, with {failure.error}: {failure.message}"
    if fate.failures:
        yield (
            f"Its input is in {failed_file}."
            if failed_file
            else "Its input is in the journal; the failed file is written when the run is done."
        )


def _stopped(outcome: str) -> str:
    """Return how a start ended that left work undone."""
    if not outcome:
        return "its start was killed"
    return "its start ended" if outcome == "done" else f"its start ended ({outcome})"


def _ids(ids: Sequence[str]) -> str:
    """Return the first few of some ids."""
    shown = ", ".join(repr(each) for each in ids[:5])
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5:,} more"
