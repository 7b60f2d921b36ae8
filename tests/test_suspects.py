"""Who killed the worker: the innocent go on, the culprits fail, and batches come back whole."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.record import Batch, Failure, StageTiming, TaskTiming
from sage_dask.suspects import STRIKES, Death, Suspects, joined, split

MEBIBYTE = 1 << 20


def batch_of(*numbers, index=0):
    """Return a batch of these numbers, whose ids they are."""
    return Batch(index, [str(n) for n in numbers], [{"x": n} for n in numbers])


def death(number=0):
    """Return the end of a worker process, each of its own."""
    return Death(f"tcp://10.0.0.1:{number}", number, "node-0", 512 * MEBIBYTE)


def suspects_with(rss=None):
    """Return suspects whose workers were all ended for this memory, or none for memory."""
    return Suspects(lambda death: rss)


def full_batch():
    """Return a batch that has something in every field."""
    timing = TaskTiming("use", "node-0", 1.0, 0.5, (StageTiming("use", 1.0, 5, 4),))
    return Batch(
        index=7,
        ids=["a", "b/0", "b/1", "c", "d/0"],
        records=[{"x": n} for n in range(5)],
        failures=[Failure("e", "use", "ValueError", "no")],
        filtered=["f"],
        num_expanded=1,
        tasks=[timing],
        roots={"b/0": "b", "b/1": "b", "d/0": "d"},
        priority=2.0,
        start=3,
    )


@dataclass
class Cluster:
    """Workers in small: those die that meet a culprit, and some by chance."""

    num_workers: int
    culprits: set[int]
    chances: list[bool]
    """Whether the next run that could be hit by chance is."""
    num_cases: int = 0
    num_chance_deaths: int = 0
    alone: Counter[int] = field(default_factory=Counter)
    """Chance deaths of single records that ran alone."""

    def run(self, suspects, case):
        """Run a case, and return the whole batches that are settled."""
        self.num_cases += 1
        dead = {worker for worker in range(self.num_workers) if self._dies(case, worker)}
        settled = []
        for place, part in enumerate(case):
            if place % self.num_workers in dead:
                settled.append(suspects.died(part, death(self.num_cases)))
            else:
                settled.append(suspects.survived(part, part.batch))
        return [batch for batch in settled if batch is not None]

    def _dies(self, case, worker):
        held = [
            record["x"]
            for part in case[worker :: self.num_workers]
            for record in part.batch.records
        ]
        if self.culprits & set(held):
            return True
        return bool(held) and self._is_hit(held if len(case) == 1 else [])

    def _is_hit(self, alone):
        is_single = len(alone) == 1
        if is_single and self.alone[alone[0]] == STRIKES - 1:
            return False
        if not (self.chances and self.chances.pop()):
            return False
        self.num_chance_deaths += 1
        if is_single:
            self.alone[alone[0]] += 1
        return True


def find_out(batches, cluster):
    """Return the batches as they come back, by index, once no one is under suspicion."""
    suspects = suspects_with()
    for batch in batches:
        suspects.accuse(batch)
    back = {}
    while suspects:
        for batch in cluster.run(suspects, suspects.next_case()):
            back[batch.index] = batch
    assert "0 cases" in repr(suspects)
    return back


@given(
    sizes=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    num_workers=st.integers(1, 4),
    chances=st.lists(st.booleans(), max_size=30),
    data=st.data(),
)
def test_culprits_are_convicted_and_innocents_never(sizes, num_workers, chances, data):
    """Whoever else dies by chance, fewer than ``STRIKES`` times alone, exactly culprits fail.

    Batches come back whole and in order, after no more cases than the docstring promises.
    """
    total = sum(sizes)
    culprits = data.draw(
        st.sets(st.integers(0, total - 1), max_size=5) if total else st.just(set())
    )
    numbers = iter(range(total))
    batches = [batch_of(*(next(numbers) for _ in range(n)), index=i) for i, n in enumerate(sizes)]
    cluster = Cluster(num_workers, culprits, chances)

    back = find_out(batches, cluster)

    assert sorted(back) == list(range(len(sizes)))
    for batch in batches:
        result = back[batch.index]
        expected = [i for i in batch.ids if int(i) not in culprits]
        assert result.ids == expected == [str(record["x"]) for record in result.records]
        assert [int(f.id) for f in result.failures] == sorted(culprits & set(map(int, batch.ids)))
        assert result.num_read == batch.num_read
    levels = ceil(log2(len(sizes))) + ceil(log2(max(1, *sizes, 1)))
    # The accusation itself is one more death by chance, where no culprit was there.
    num_chances = cluster.num_chance_deaths + 1
    assert cluster.num_cases <= len(culprits) * (2 * levels + STRIKES) + 2 * num_chances


def test_a_batch_that_was_only_near_a_death_runs_once_more():
    """The others of a lost worker go through together, and none of their records fails."""
    batches = [batch_of(n, index=n) for n in range(8)]
    cluster = Cluster(2, set(), [])

    back = find_out(batches, cluster)

    assert all(not batch.failures for batch in back.values())
    assert cluster.num_cases == 2


def test_one_culprit_in_twenty_batches_is_found_by_halving():
    """Twenty batches of 32 take a dozen worker deaths, not one run for each of them."""
    batches = [batch_of(*range(32 * i, 32 * i + 32), index=i) for i in range(20)]
    cluster = Cluster(1, {345}, [])

    back = find_out(batches, cluster)

    (failure,) = back[10].failures
    assert failure.id == "345"
    assert failure.attempts <= 1 + ceil(log2(20)) + ceil(log2(32)) + STRIKES - 1
    assert cluster.num_cases <= 23


def test_deaths_by_chance_convict_where_every_run_alone_meets_one():
    """``STRIKES`` is the whole protection: one strike less leaves the record in peace."""
    lucky, unlucky = suspects_with(), suspects_with()
    for suspects in (lucky, unlucky):
        suspects.accuse(batch_of(1))
        for number in range(STRIKES - 1):
            (part,) = suspects.next_case()
            assert suspects.died(part, death(number)) is None

    (part,) = lucky.next_case()
    cleared = lucky.survived(part, part.batch)
    (part,) = unlucky.next_case()
    convicted = unlucky.died(part, death())

    assert (cleared.ids, cleared.failures) == (["1"], [])
    assert (convicted.ids, [failure.id for failure in convicted.failures]) == ([], ["1"])


def test_only_deaths_alone_are_strikes():
    """A record that dies again and again beside others has not been convicted of anything."""
    suspects = suspects_with()
    suspects.accuse(batch_of(1, index=1))
    for index in range(2, 10):
        suspects.accuse(batch_of(index, index=index))

    num_beside = 0
    while len(case := suspects.next_case()) > 1:
        assert all(suspects.died(part, death()) is None for part in case)
        num_beside += 1

    assert num_beside >= STRIKES
    assert case[0].strikes == ()
    assert len(suspects) == 9


@pytest.mark.parametrize("num_deaths", [0, 1, STRIKES])
def test_a_batch_without_records_comes_back_with_its_account(num_deaths):
    """A batch all of whose records failed before can still be where a worker dies."""
    suspects = suspects_with()
    suspects.accuse(Batch(0, [], [], [Failure("a", "read", "E", "m")]))

    back = None
    for number in range(num_deaths):
        (part,) = suspects.next_case()
        back = suspects.died(part, death(number))
    if num_deaths < STRIKES:
        (part,) = suspects.next_case()
        back = suspects.survived(part, part.batch)

    assert [failure.id for failure in back.failures] == ["a"]
    assert repr(suspects) == "<Suspects 0 batches, 0 cases waiting>"


def test_suspicion_ends_with_the_last_part():
    """A batch that survived its case is back at once; only those that died run again."""
    suspects = suspects_with()
    for index in range(4):
        suspects.accuse(batch_of(index, index=index))

    first = suspects.next_case()
    assert [part.batch.index for part in first] == [0, 1]
    assert suspects.survived(first[0], first[0].batch).index == 0
    assert suspects.died(first[1], death()) is None

    assert [part.batch.index for part in suspects.next_case()] == [1]
    assert len(suspects) == 3


@pytest.mark.parametrize(
    ("rss", "error", "told"),
    [
        (None, "KilledWorker", ["all 3 runs", "node-0 at tcp://10.0.0.1:2", "'Out of memory'"]),
        (
            500 * MEBIBYTE,
            "OutOfMemory",
            ["500 MiB", "limit 512 MiB", "3 of 3 runs", "memory_limit"],
        ),
    ],
)
def test_a_conviction_says_what_happened_how_often_where_and_the_mend(rss, error, told):
    """The failure is one that its reader can act on."""
    suspects = suspects_with(rss)
    suspects.accuse(batch_of(1))
    convicted = None
    for number in range(STRIKES):
        (part,) = suspects.next_case()
        convicted = suspects.died(part, death(number))

    (failure,) = convicted.failures
    assert (failure.id, failure.stage, failure.error) == ("1", "worker", error)
    assert failure.attempts == 1 + STRIKES
    assert all(words in failure.message for words in told), failure.message


def test_memory_is_asked_about_once_a_record_is_convicted():
    """Notes of memory kills may be late, so no answer is taken before it is needed."""
    asked = []

    def rss_at_kill(death):
        asked.append(death)
        # Of one of the deaths a note came, and that is more than knowing nothing of the others.
        return MEBIBYTE if death.pid == 1 else None

    suspects = Suspects(rss_at_kill)
    suspects.accuse(batch_of(1))
    convicted = None
    for number in range(STRIKES):
        assert asked == []
        (part,) = suspects.next_case()
        convicted = suspects.died(part, death(number))

    assert asked == [death(number) for number in range(STRIKES)]
    assert [failure.error for failure in convicted.failures] == ["OutOfMemory"]
    assert "1 of 3 runs" in convicted.failures[0].message


def test_a_child_of_an_expansion_keeps_its_root():
    """A convicted record that an earlier task made points to the record that was read."""
    back = find_out([full_batch()], Cluster(1, {0, 2}, []))[7]

    roots = [(failure.id, failure.root) for failure in back.failures]
    assert roots == [("e", None), ("a", None), ("b/1", "b")]
    assert back.num_read == full_batch().num_read


@given(st.integers(2, 40), st.lists(st.booleans(), min_size=40, max_size=40))
def test_splitting_and_joining_gives_the_batch_back(num_records, is_child):
    """However often a batch is halved, its parts add up to it, field by field."""
    whole = full_batch()
    whole.ids = [f"{n}/0" if is_child[n] else str(n) for n in range(num_records)]
    whole.records = [{"x": n} for n in range(num_records)]
    whole.roots = {i: i[:-2] for i in whole.ids if i.endswith("/0")}

    parts = [whole]
    while any(len(part) > 1 for part in parts):
        parts = [half for part in parts for half in (split(part) if len(part) > 1 else [part])]

    assert len(parts) == num_records
    assert all(set(part.roots) <= set(part.ids) for part in parts)
    assert all((part.index, part.priority, part.start) == (7, 2.0, 3) for part in parts)
    assert sum(part.num_read for part in parts) == whole.num_read
    assert joined(parts) == whole


def test_joining_adds_up_what_became_of_the_parts():
    """Timings, failures, drops and expansions of both halves are in the whole, in order."""
    first, second = split(full_batch())
    first.failures.append(Failure("a", "use", "E", "m"))
    second.tasks.append(TaskTiming("use", "node-1", 2.0, 0.0, ()))
    second.filtered.append("c")
    second.num_expanded += 2

    whole = joined([first, second])

    assert [failure.id for failure in whole.failures] == ["e", "a"]
    assert [task.node for task in whole.tasks] == ["node-0", "node-1"]
    assert (whole.filtered, whole.num_expanded) == (["f", "c"], 3)
    assert len(first.tasks) == len(second.tasks) == 1


def test_no_field_of_a_batch_is_forgotten():
    """A new field has to be filled in ``full_batch``, or halving it goes untested."""
    plain = Batch(0, [], [])

    assert all(getattr(full_batch(), f.name) != getattr(plain, f.name) for f in fields(Batch))


def test_suspects_tell_their_state():
    """What is watched says how far it is."""
    suspects = suspects_with()
    suspects.accuse(batch_of(1, index=1))
    suspects.accuse(batch_of(2, index=2))
    suspects.next_case()

    assert repr(suspects) == "<Suspects 2 batches, 1 cases waiting>"
