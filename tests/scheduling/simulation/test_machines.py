"""Simulated workers have as many threads, and servers as many seats, as they say."""

from __future__ import annotations

import pytest

from sage_dask.errors import PlanError
from sage_dask.scheduling.simulation.machines import (
    Attempt,
    Flow,
    ModelServer,
    SimulatedNode,
    SimulatedWorker,
    equal_nodes,
)
from sage_dask.scheduling.simulation.workload import Batch, Step, Stream


@pytest.fixture
def worker():
    """Lend a worker with two threads."""
    node = SimulatedNode("n1", threads=2)
    return SimulatedWorker(node.infos()[0], node)


def attempts(worker, count):
    """Return attempts at tasks that call a server for a second."""
    batch = Batch(0.0, (Step("generate", 0.1, server="llm", request_s=1.0),))
    flows = [Flow(Stream("rag/1", [batch]), batch, number, 0.0) for number in range(count)]
    return [Attempt(flow.number, flow, worker, 0.0) for flow in flows]


def test_workers_of_a_node_share_what_it_has():
    """Threads and resources are the node's, in equal parts for its workers."""
    node = SimulatedNode("n1", threads=8, workers=4, resources={"GPU": 2.0})

    infos = node.infos()

    assert [info.threads for info in infos] == [2, 2, 2, 2]
    assert [info.resources for info in infos] == [{"GPU": 0.5}] * 4
    assert {info.node for info in infos} == {"n1"}
    assert len({info.address for info in infos}) == 4


def test_threads_that_can_not_be_shared_are_refused():
    """Eight threads for three workers would lose two without a word."""
    with pytest.raises(PlanError, match="8 threads can not be shared equally by 3 workers"):
        SimulatedNode("n1", threads=8, workers=3)


def test_equal_nodes_are_in_the_order_of_their_names():
    """Node 2 comes before node 10 for whoever sorts by name, and slow ones are where they say."""
    nodes = equal_nodes(11, slow={2: 3.0})
    names = [node.name for node in nodes]

    assert names == sorted(names)
    assert [node.slowdown for node in nodes[:4]] == [1.0, 1.0, 3.0, 1.0]


def test_more_tasks_than_threads_wait_for_one_in_order(worker):
    """The third task gets the thread that the first lets go, then the fourth."""
    sent = attempts(worker, 4)

    begun = [worker.send(attempt) for attempt in sent]
    freed = [worker.free_thread() for _ in range(3)]

    assert begun == [sent[0], sent[1], None, None]
    assert freed == [sent[2], sent[3], None]
    assert worker.free_threads == 1


def test_a_lost_task_ends_when_its_worker_does(worker):
    """What had ended before is not said to have ended later."""
    done, running = attempts(worker, 2)
    for attempt in (done, running):
        worker.send(attempt)
    done.ended_s = 1.0

    lost = [worker.lose(attempt.key, 5.0) for attempt in (done, running)]

    assert [attempt.ended_s for attempt in lost] == [1.0, 5.0]
    assert all(attempt.is_lost for attempt in lost)
    assert not worker.attempts


def test_requests_get_seats_in_the_order_of_coming(worker):
    """Three requests at two seats: the third is served when one of the others was."""
    server = ModelServer(seats=2)
    requests = attempts(worker, 3)

    seated = [server.request(attempt) for attempt in requests]
    next_one = server.answer()

    assert seated == [requests[0], requests[1], None]
    assert next_one is requests[2]
    assert (server.peak_seated, server.peak_waiting, server.num_served) == (2, 1, 3)
    assert server.busy_s == 3.0


def test_a_request_whose_caller_was_lost_gets_no_seat(worker):
    """It has hung up; the one after it is next."""
    server = ModelServer(seats=1)
    first, lost, last = attempts(worker, 3)
    for attempt in (first, lost, last):
        server.request(attempt)
    lost.is_lost = True

    next_one = server.answer()

    assert next_one is last
    assert server.answer() is None
