"""One suite over all runners: requests to model servers are bounded, fair, and paid for once."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.durable.run_folder import EVENTS
from sage_dask.endpoint.call_times import CallTimes
from sage_dask.errors import StopRun
from sage_dask.event_file import read_events
from sage_dask.operators import Generate


@pytest.fixture
def server():
    """A timed server of eight seats."""
    with TimedServer(seats=8, latency_s=0.05, jitter_s=0.02) as server:
        yield server


def asking(endpoint, num_records=100, name="asking", **options):
    """Return a pipeline that sends one request per record."""
    operator = Generate(endpoint=endpoint, model="timed", max_tokens=4, **options)
    records = [{"prompt": f"question {number}"} for number in range(num_records)]
    return Pipeline(name).source(FromIterable(records)).stage("generate", operator).sink(Collect())


def requests_by_call(server):
    """Return how many requests each call took, and how many of them were answered."""
    received, answered = Counter(), Counter()
    for name, counts in server.ledger().items():
        call = name.rpartition("-")[0]
        received[call] += counts["received"]
        answered[call] += counts["answered"]
    return received, answered


def test_every_record_is_asked_once(on, server):
    """A hundred records make a hundred requests, each answered, and the report says so."""
    pipeline = asking(server.endpoint)

    report = pipeline.run(on)

    received, answered = requests_by_call(server)
    assert report.num_written == report.usage.requests == 100
    assert set(received.values()) == set(answered.values()) == {1}
    assert all(record["answer"] for record in pipeline.output.records)


def test_where_the_time_of_calls_went_comes_back_with_each_batch(on, tmp_path):
    """Every call is in the events of the run once, with what its server told of it."""
    with TimedServer(seats=2, latency_s=0.01, request_metrics=True) as server:
        asking(server.endpoint, num_records=20).run(on, run_dir=tmp_path / "run")

    total = CallTimes()
    for event in read_events(tmp_path / "run" / EVENTS):
        for task in getattr(event, "tasks", ()):
            for timing in task.stages:
                total.add(timing.calls or CallTimes())
    assert (total.calls, total.told) == (20, 20)
    assert total.first_token_s + total.generation_s == pytest.approx(20 * 0.01)
    assert 0 < total.told_sent_s <= total.sent_s


@pytest.mark.parametrize("by", ["operator", "run"])
def test_a_fixed_limit_is_never_exceeded(on, server, by):
    """The server never has more requests at once than the limit, and gets as many."""
    pipeline = asking(server.endpoint, limit=3 if by == "operator" else None)
    gates = {server.endpoint: 3} if by == "run" else None

    pipeline.run(on, gates=gates)

    assert server.statistics()["most_running"] == 3


def test_more_requests_wait_than_there_are_threads(on):
    """Forty requests are under way together on at most four threads."""
    with TimedServer(seats=64, latency_s=0.3) as server:
        asking(server.endpoint, 160, limit=40).run(on)

        assert server.statistics()["most_running"] == 40


def test_no_more_batches_are_under_way_than_the_user_said(on):
    """Two batches of five are ten requests, however many more the server would take."""
    with TimedServer(seats=64, latency_s=0.05) as server:
        asking(server.endpoint, 100, limit=40).run(on, batch_size=5, max_in_flight=2)

        assert server.statistics()["most_running"] == 10


@pytest.mark.slow
def test_the_limit_finds_the_servers_seats(on):
    """Without a limit given, a server of twelve seats is kept full and not drowned."""
    with TimedServer(seats=12, latency_s=0.1) as server:
        asking(server.endpoint, 600).run(on)

        statistics = server.statistics()
    assert statistics["most_running"] == 12
    assert statistics["mean_waiting"] <= 12


def test_a_refused_key_stops_the_run_at_once(on):
    """One 401 ends the run in one line that names the mend, with hardly anything sent."""
    with TimedServer(seats=8, latency_s=0.05, api_key="secret") as server:
        with pytest.raises(StopRun, match="api_key_env"):
            asking(server.endpoint, 500).run(on)

        assert sum(requests_by_call(server)[0].values()) < 100


def test_records_wait_out_an_outage(on, server):
    """A server that is gone for a second costs no record, and is asked once per record after."""
    pipeline = asking(server.endpoint, 400)
    outage = threading.Timer(0.5, server.outage, [1.0])
    outage.start()

    report = pipeline.run(on)

    outage.join()
    _, answered = requests_by_call(server)
    assert (report.num_written, report.num_failed) == (400, 0)
    # An answer that was on the wire when the server went is lost, and asked for again.
    assert len(answered) == 400
    assert 400 <= sum(answered.values()) <= 400 + server.options.seats


def test_the_end_of_a_run_calls_off_its_requests(on):
    """When one record stops the run, the others' requests are not waited for."""
    script = {"faults": [{"fault": "401", "numbers": [5]}]}
    with (
        TimedServer(seats=8, latency_s=600, script=script) as server,
        pytest.raises(StopRun, match="401"),
    ):
        asking(server.endpoint, 200).run(on)
