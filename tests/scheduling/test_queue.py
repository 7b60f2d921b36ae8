"""Tasks that wait, arranged so that the next one is found without looking at all."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sage_dask.scheduling.jobs import Jobs
from sage_dask.scheduling.nodes import Pool
from sage_dask.scheduling.queue import Queue
from tests.scheduling.building import task

JOBS = ["a/1", "b/1", "c/1"]


@pytest.fixture
def jobs():
    """Lend the counts of jobs."""
    return Jobs()


@pytest.fixture
def queue():
    """Lend an empty queue."""
    return Queue(lambda demand: Pool(demand.fit))


def drain(queue, line):
    """Take out the head again and again, and return the keys in that order."""
    order = []
    while line.lanes:
        order.append(line.head.task.key)
        queue.remove(order[-1])
    return order


def test_smaller_classes_go_first_then_ranks_then_who_came_first(queue, jobs):
    """Within one job, in that order of importance."""
    job = jobs.obtain("a/1")
    for key, precedence, rank in [("d", 1, (0,)), ("c", 0, (2,)), ("a", 0, (1,)), ("b", 0, (1,))]:
        queue.push(task(key, "a/1", rank=rank), precedence, job)

    (line,) = queue.lines.values()

    assert drain(queue, line) == ["a", "b", "c", "d"]


def test_the_job_that_was_served_least_goes_first_within_a_class(queue, jobs):
    """Fair shares come after the class and before the place within a job."""
    for name, precedence in [("a/1", 0), ("b/1", 0), ("c/1", 1)]:
        queue.push(task(name, name, rank=(5,)), precedence, jobs.obtain(name))
    jobs["a/1"].charge(2.0)
    queue.reorder(jobs["a/1"])

    (line,) = queue.lines.values()

    assert drain(queue, line) == ["b/1", "a/1", "c/1"]


def test_tasks_that_need_the_same_stand_in_one_line(queue, jobs):
    """Whatever their job; other needs are another line."""
    queue.push(task(1, "a/1"), 0, jobs.obtain("a/1"))
    queue.push(task(2, "b/1"), 0, jobs.obtain("b/1"))
    queue.push(task(3, "a/1", gates={"llm": 1}), 0, jobs["a/1"])

    assert sorted(line.size for line in queue.lines.values()) == [1, 2]


def test_a_job_at_its_quota_is_out_of_the_line_and_comes_back(queue, jobs):
    """Its tasks still count as waiting."""
    job = jobs.obtain("a/1")
    queue.push(task(1, "a/1"), 0, job)
    jobs.set_quota("a/1", {"threads": 0})
    queue.reorder(job)
    (line,) = queue.lines.values()
    assert not line.lanes
    assert (line.size, len(queue)) == (1, 1)

    jobs.set_quota("a/1", {})
    queue.reorder(job)

    assert line.head.task.key == 1


def test_spare_lines_are_forgotten_when_there_are_many(queue, jobs):
    """A long life with ever new needs leaves few lines; lines of jobs that are there stay."""
    job = jobs.obtain("a/1")
    queue.push(task("stays", "a/1"), 0, job)
    other = jobs.obtain("b/1")
    for number in range(1, 200):
        queue.push(task(number, "b/1", gates={"llm": number}), 0, other)
        queue.remove(number)
    queue.drop_job("b/1")

    queue.drop_spare_lines()

    assert len(queue.lines) <= 33
    assert queue["stays"].lane.line in queue.lines.values()


class QueueMachine(RuleBasedStateMachine):
    """A queue beside a plain list of what waits."""

    def __init__(self):
        super().__init__()
        self.jobs = Jobs()
        self.queue = Queue(lambda demand: Pool(demand.fit))
        self.model = {}
        self.number = 0

    @rule(
        job=st.sampled_from(JOBS),
        slots=st.integers(1, 2),
        precedence=st.integers(0, 2),
        rank=st.integers(0, 2),
    )
    def push(self, job, slots, precedence, rank):
        """Add a task."""
        self.number += 1
        added = task(self.number, job, rank=(rank,), priority=precedence, gates={"llm": slots})
        self.queue.push(added, precedence, self.jobs.obtain(job))
        self.model[self.number] = (precedence, added)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data):
        """Take any task out, first in its lane or not."""
        key = data.draw(st.sampled_from(sorted(self.model)))
        assert self.queue.remove(key).task is self.model.pop(key)[1]

    @rule(job=st.sampled_from(JOBS), seconds=st.floats(0.1, 3.0))
    def charge(self, job, seconds):
        """Serve a job, so that others go first."""
        if self.jobs.get(job) is not None:
            self.jobs[job].charge(seconds)
            self.queue.reorder(self.jobs[job])

    @rule(job=st.sampled_from(JOBS), threads=st.integers(0, 1))
    def limit(self, job, threads):
        """Hold a job back, or let it go."""
        self.jobs.set_quota(job, {"threads": threads})
        if self.jobs.get(job) is not None:
            self.queue.reorder(self.jobs[job])

    @rule(sign=st.sampled_from([1, -1]))
    def rebuild(self, sign):
        """Change what is urgent."""
        self.queue.rebuild(lambda each: sign * each.priority)
        self.model = {key: (sign * each.priority, each) for key, (_, each) in self.model.items()}

    @rule(job=st.sampled_from(JOBS))
    def drop(self, job):
        """Forget a job that has nothing left."""
        counts = self.jobs.get(job)
        if counts is not None and counts.is_idle:
            self.jobs.drop(counts)
            self.queue.drop_job(job)

    @invariant()
    def heads_are_the_smallest(self):
        """The head of each line is what sorting all its tasks finds first."""
        assert len(self.queue) == len(self.model)
        for demand, line in self.queue.lines.items():
            waiting = [
                (precedence, self.jobs[each.job].pass_s, each.rank, key)
                for key, (precedence, each) in self.model.items()
                if each.demand == demand and self.jobs[each.job].may_hold(demand)
            ]
            assert bool(line.lanes) == bool(waiting)
            if waiting:
                assert line.head.task.key == min(waiting)[3]

    @invariant()
    def counts_are_right(self):
        """Sizes of lines and jobs are those of the list."""
        for demand, line in self.queue.lines.items():
            assert line.size == sum(each.demand == demand for _, each in self.model.values())
            assert line.size == sum(line.stages.values())
        for job in self.jobs:
            assert job.num_queued == sum(each.job == job.name for _, each in self.model.values())


TestQueueAgreesWithAList = QueueMachine.TestCase
TestQueueAgreesWithAList.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
