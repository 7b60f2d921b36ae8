"""Continuous batching, timed: steps of a batch that sequences join and leave at any step.

The rules are those of vLLM's scheduler: running sequences first, oldest first;
then waiting ones in order of arrival while seats, tokens of the step and KV
cache last; who finds no memory to go on has the newest go back to the queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from sage_dask.cluster.timed_server.options import TimedOptions
from sage_dask.cluster.timed_server.prefix_cache import PrefixCache
from sage_dask.cluster.timed_server.work import (
    BLOCK_TOKENS,
    EngineEvent,
    EngineStatistics,
    Finished,
    Produced,
    Work,
)


@dataclass(slots=True, eq=False)
class _Sequence:
    """A piece of work on its way."""

    work: Work
    arrived_s: float
    started_s: float | None = None
    first_token_s: float | None = None
    produced: int = 0
    computed: int = 0
    """Tokens, of prompt and answer, that are in the KV cache."""
    blocks_held: int = 0
    cached_tokens: int = 0

    @property
    def missing(self) -> int:
        """Tokens to compute before the next one comes out."""
        return self.work.prompt_tokens + self.produced - self.computed


class ContinuousBatching:
    """An engine whose time goes by in steps; how long one takes depends on what is in it."""

    def __init__(self, options: TimedOptions) -> None:
        self._options = options
        self._prefixes = PrefixCache(options.prefix_blocks)
        self._waiting: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        """Oldest first."""
        self._step: dict[_Sequence, int] = {}
        """Tokens that the present step computes for each sequence."""
        self._step_end_s: float | None = None
        # Part of a block can not be given to anyone else.
        self._num_blocks = -(-options.kv_tokens // BLOCK_TOKENS)
        self._blocks_held = 0
        self._preemptions = 0

    @property
    def next_s(self) -> float | None:
        """When the present step ends."""
        return self._step_end_s

    def submit(self, work: Work, now_s: float) -> None:
        """Queue a sequence; it joins the batch at the next step that has room for it.

        Raises:
            ValueError: The KV cache could not hold it even if it were alone.
        """
        tokens = work.prompt_tokens + work.answer_tokens
        if work.prompt_tokens < 1 or tokens > self._options.kv_tokens:
            raise ValueError(
                f"a sequence of {work.prompt_tokens} + {work.answer_tokens} tokens does not fit "
                f"a KV cache of {self._options.kv_tokens}; options.max_model_len keeps it out"
            )
        self._waiting.append(_Sequence(work, now_s))
        if self._step_end_s is None:
            self._begin_step(now_s)

    def cancel(self, key: Hashable, now_s: float) -> None:
        """Drop a sequence; the step that it may be part of takes as long as it would have."""
        for sequence in self._running:
            if sequence.work.key == key:
                self._leave(sequence)
                return
        for sequence in self._waiting:
            if sequence.work.key == key:
                self._waiting.remove(sequence)
                return

    def advance(self, now_s: float) -> list[EngineEvent]:
        """End all steps that are over by now, each at its own time."""
        events: list[EngineEvent] = []
        while self._step_end_s is not None and self._step_end_s <= now_s:
            ended_s = self._step_end_s
            events += self._end_step(ended_s)
            self._begin_step(ended_s)
        return events

    def statistics(self) -> EngineStatistics:
        """Return the counts of this moment."""
        return EngineStatistics(
            running=len(self._running),
            waiting=len(self._waiting),
            kv_usage=self._blocks_held / self._num_blocks,
            preemptions=self._preemptions,
            prefix_queries=self._prefixes.queries,
            prefix_hits=self._prefixes.hits,
        )

    def _begin_step(self, now_s: float) -> None:
        """Choose what the next step computes; without any work there is none."""
        self._step = {}
        budget = self._plan_running(self._options.max_batched_tokens)
        self._plan_waiting(budget, now_s)
        self._step_end_s = now_s + self._step_s() if self._step else None

    def _step_s(self) -> float:
        prompt_tokens = sum(tokens for tokens in self._step.values() if tokens > 1)
        return (
            self._options.step_s
            + self._options.step_per_sequence_s * len(self._step)
            + self._options.prefill_per_token_s * prompt_tokens
        )

    def _plan_running(self, budget: int) -> int:
        """Give running sequences their part of the step; return the tokens left for others."""
        is_short = False
        index = 0
        while budget and index < len(self._running):
            sequence = self._running[index]
            tokens = min(sequence.missing, budget)
            while not self._grow(sequence, tokens):
                is_short = True
                if self._preempt_newest() is sequence:
                    return 0
            self._step[sequence] = tokens
            budget -= tokens
            index += 1
        # Who joined now would take the memory that was just found for those who run.
        return 0 if is_short else budget

    def _plan_waiting(self, budget: int, now_s: float) -> None:
        """Have waiting sequences join in order of arrival, for as long as each finds room."""
        while self._waiting and budget and len(self._running) < self._options.seats:
            sequence = self._waiting[0]
            tokens = self._admit(sequence, budget)
            if not tokens:
                break
            if sequence.started_s is None:
                sequence.started_s = now_s
                sequence.cached_tokens = sequence.computed
                self._prefixes.count(sequence.work.prompt_tokens, sequence.computed)
            self._running.append(self._waiting.popleft())
            self._step[sequence] = tokens
            budget -= tokens

    def _admit(self, sequence: _Sequence, budget: int) -> int:
        """Find memory for the head of the queue; return the tokens to begin with, or 0."""
        work = sequence.work
        sequence.computed = self._prefixes.known(work.blocks, work.prompt_tokens)
        tokens = min(sequence.missing, budget)
        return tokens if self._grow(sequence, tokens) else 0

    def _grow(self, sequence: _Sequence, tokens: int) -> bool:
        """Take the blocks that more tokens need, or none if there are too few."""
        blocks = -(-(sequence.computed + tokens) // BLOCK_TOKENS) - sequence.blocks_held
        if self._blocks_held + blocks > self._num_blocks:
            return False
        sequence.blocks_held += blocks
        self._blocks_held += blocks
        return True

    def _preempt_newest(self) -> _Sequence:
        """Send the newest sequence back to the head of the queue, to be computed again."""
        sequence = self._running[-1]
        self._leave(sequence)
        self._waiting.appendleft(sequence)
        self._preemptions += 1
        return sequence

    def _leave(self, sequence: _Sequence) -> None:
        self._running.remove(sequence)
        self._blocks_held -= sequence.blocks_held
        sequence.blocks_held = 0

    def _end_step(self, now_s: float) -> list[EngineEvent]:
        events: list[EngineEvent] = []
        for sequence, tokens in self._step.items():
            if not sequence.blocks_held:
                continue  # Cancelled meanwhile.
            sequence.computed += tokens
            if not sequence.missing:
                events += self._come_out(sequence, now_s)
        return events

    def _come_out(self, sequence: _Sequence, now_s: float) -> list[EngineEvent]:
        """All that was known is computed: a token comes out, or there is no more to do."""
        work = sequence.work
        if sequence.first_token_s is None:
            sequence.first_token_s = now_s
            self._prefixes.remember(work.blocks)
        sequence.produced += bool(work.answer_tokens)
        events: list[EngineEvent] = []
        if work.is_streamed:
            events.append(Produced(work.key, sequence.produced))
        if sequence.produced == work.answer_tokens:
            self._leave(sequence)
            events.append(_finished(sequence, now_s))
        return events

    def __repr__(self) -> str:
        counts = self.statistics()
        return (
            f"<ContinuousBatching {counts.running}/{self._options.seats} running, "
            f"{counts.waiting} waiting, {counts.kv_usage:.0%} of the KV cache>"
        )


def _finished(sequence: _Sequence, now_s: float) -> Finished:
    return Finished(
        sequence.work.key,
        arrived_s=sequence.arrived_s,
        started_s=now_s if sequence.started_s is None else sequence.started_s,
        first_token_s=now_s if sequence.first_token_s is None else sequence.first_token_s,
        finished_s=now_s,
        cached_tokens=sequence.cached_tokens,
    )
