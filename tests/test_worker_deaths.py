"""What Dask's own words say of a worker process that ended."""

from __future__ import annotations

import pytest
from distributed import Client, KilledWorker, LocalCluster, Status
from distributed.scheduler import WorkerState

from sage_dask.suspects import Death
from sage_dask.worker_deaths import TOPIC, death_of, rss_at_kill


@pytest.fixture(scope="module")
def client():
    """Lend a client of a scheduler without workers: its event log is all that is needed."""
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def a_death(number):
    """Return the end of process ``number`` at an address that all of them had."""
    return Death("tcp://10.0.0.1:9000", number, "node-0", 1 << 29)


def test_an_error_of_dask_tells_which_process_ended():
    """Address, process, name and limit are those of the last worker that died."""
    worker = WorkerState(
        address="tcp://10.0.0.1:9000",
        status=Status.running,
        pid=17,
        name=3,
        nthreads=1,
        memory_limit=1 << 29,
        local_directory="",
        nanny="tcp://10.0.0.1:9001",
        server_id="Worker-1",
    )

    death = death_of(KilledWorker("key", worker, 0))

    assert death == Death("tcp://10.0.0.1:9000", 17, "3", 1 << 29)


def test_a_process_that_was_ended_for_its_memory_is_told_from_the_next_one(client):
    """Where ports are fixed a new process has the address of the old one, and another pid."""
    client.log_event(TOPIC, {"worker": "tcp://10.0.0.1:9000", "pid": 1, "rss": 500})
    client.log_event(TOPIC, {"worker": "tcp://10.0.0.1:9000", "pid": 2, "rss": 600})
    client.log_event(TOPIC, {"worker": "tcp://10.0.0.2:9000", "pid": 3, "rss": 700})

    assert [rss_at_kill(client, a_death(pid)) for pid in (1, 2, 3)] == [500, 600, None]


def test_a_scheduler_that_was_told_nothing_knows_of_no_memory_kill(client):
    """A process that ended for another reason has no such note, and that is no error."""
    assert rss_at_kill(client, a_death(99)) is None
