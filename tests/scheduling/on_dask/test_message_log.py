"""Dask's logs of recent messages are short, on every stream and for good."""

from __future__ import annotations

import pytest
from distributed import Client, LocalCluster

from sage_dask.scheduling.on_dask.message_log import NUM_KEPT, shorten_message_logs


@pytest.fixture
def cluster():
    """Lend one worker in this process."""
    with LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,
    ) as cluster:
        yield cluster


def lengths(cluster):
    """Return how many messages each of the scheduler's streams to workers may keep."""
    streams = cluster.scheduler.stream_comms.values()
    return [stream.recent_message_log.maxlen for stream in streams]


def test_streams_that_are_there_are_shortened(cluster):
    """The client's stream and the scheduler's to its workers keep a few messages."""
    with Client(cluster, set_as_default=False) as client:
        before = lengths(cluster)

        shorten_message_logs(client)

        assert before[0] is None or before[0] > NUM_KEPT
        assert lengths(cluster) == [NUM_KEPT]
        assert client.scheduler_comm.recent_message_log.maxlen == NUM_KEPT


def test_workers_that_join_later_are_shortened(cluster):
    """A stream made after the call is short as well."""
    with Client(cluster, set_as_default=False) as client:
        shorten_message_logs(client)

        cluster.scale(2)
        client.wait_for_workers(2)

        assert lengths(cluster) == [NUM_KEPT, NUM_KEPT]


def test_the_last_messages_stay(cluster):
    """What is cut off is the old end of the log."""
    with Client(cluster, set_as_default=False) as client:
        client.gather(client.map(abs, range(30), pure=False))
        (stream,) = cluster.scheduler.stream_comms.values()
        before = list(stream.recent_message_log)

        shorten_message_logs(client)

        kept = list(stream.recent_message_log)
        assert 0 < len(kept) <= NUM_KEPT
        assert kept[0] in before[-NUM_KEPT:]


def test_a_second_call_changes_nothing(cluster):
    """Each run calls it; the plugin is registered once and logs are kept as they are."""
    with Client(cluster, set_as_default=False) as client:
        shorten_message_logs(client)
        log = client.scheduler_comm.recent_message_log
        plugins = set(cluster.scheduler.plugins)

        shorten_message_logs(client)

        assert client.scheduler_comm.recent_message_log is log
        assert set(cluster.scheduler.plugins) == plugins
