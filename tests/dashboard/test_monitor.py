"""The monitor on Dask's own scheduler, without machines."""

from __future__ import annotations

import logging
from contextlib import contextmanager

import pytest
from distributed.protocol import pickle

from sage_dask.dashboard import monitor as monitor_module
from sage_dask.dashboard.monitor import SHARED_S, MonitorPlugin
from sage_dask.dashboard.snapshot import NodeLoad
from sage_dask.dashboard.wire import NEWS, SNAPSHOT
from sage_dask.errors import PlanError
from sage_dask.scheduling.on_dask.settings import Settings
from sage_dask.testing import FakeClock
from tests.dashboard.news import news
from tests.scheduling.on_dask.dask_state import DaskState
from tests.scheduling.on_dask.plugged import ours, plug, tasks

ALLOWED = {"sage.allow-control": True}


@contextmanager
def monitored(config=None, *, is_placed=True):
    """Lend a scheduler with a monitor and its clock; with a dispatcher, unless Dask places."""
    clock = FakeClock(100.0)
    with DaskState(config) as dask:
        monitor = MonitorPlugin(clock)
        dask.register(monitor)
        if is_placed:
            plug(dask, Settings("fifo"))
        yield dask, monitor, clock


def hear(dask, job="rag/1", client="client", **said):
    """Let a driver say how far its job is."""
    dask.do(dask.scheduler.handlers[NEWS], job=job, client=client, news=news(**said))


def core_of(dask):
    """Return the dispatcher."""
    return dask.scheduler.plugins["sage-dask-dispatcher"].dispatcher


def test_what_drivers_say_is_what_is_seen():
    """A snapshot has each job as its driver has it, and the dispatcher's own counts."""
    with monitored() as (dask, monitor, _):
        dask.submit(tasks(3), ours())
        hear(dask, num_read=7)

        snapshot = monitor.snapshot()

    (job,) = snapshot.jobs
    assert (job.name, job.state, job.progress.num_read) == ("rag/1", "running", 7)
    assert (snapshot.scheduling.policy, snapshot.scheduling.num_queued) == ("fifo", 3)
    assert (snapshot.now_s, snapshot.may_control, monitor.num_errors) == (100.0, False, 0)


def test_where_dask_places_there_is_nothing_of_scheduling():
    """Jobs and nodes are seen all the same."""
    with monitored(is_placed=False) as (dask, monitor, _):
        dask.add_worker("a")
        hear(dask)

        snapshot = monitor.snapshot()

    assert snapshot.scheduling is None
    assert [job.name for job in snapshot.jobs] == ["rag/1"]
    assert len(snapshot.nodes) == 1


def test_a_node_is_all_of_its_workers():
    """Memory is that of the worker that is shortest of it; paused ones are counted."""
    with monitored() as (dask, monitor, _):
        dask.add_worker("a0", threads=2, node="a", memory_limit=1000)
        dask.add_worker("a1", threads=3, node="a", memory_limit=1000)
        dask.add_worker("b", threads=4, node="b")
        dask.heartbeat("a0", memory=250, cpu=200.0)
        dask.heartbeat("a1", memory=750, cpu=50.0)
        dask.heartbeat("b", cpu=0.0)
        dask.pause("a1")

        nodes = monitor.snapshot().nodes

    assert nodes == [
        NodeLoad("a", num_workers=2, num_threads=5, memory=0.75, cpu=0.5, num_paused=1),
        NodeLoad("b", num_workers=1, num_threads=4, memory=None, cpu=0.0, num_paused=0),
    ]


def test_all_who_look_share_one_snapshot_for_half_a_second():
    """A hundred tabs cost what one does; clients get the same one."""
    with monitored() as (dask, monitor, clock):
        hear(dask, num_read=1)
        first = monitor.snapshot()
        hear(dask, num_read=2)
        clock.advance(SHARED_S - 0.01)
        shared = [monitor.snapshot() for _ in range(100)]
        asked = pickle.loads(dask.scheduler.handlers[SNAPSHOT](num_points=0))
        clock.advance(0.02)
        next_one = monitor.snapshot()

    assert all(snapshot is first for snapshot in shared)
    assert (asked.now_s, asked.jobs[0].progress.num_read) == (first.now_s, 1)
    assert next_one.jobs[0].progress.num_read == 2


@pytest.mark.parametrize(("num_points", "rates"), [(0, []), (2, [2.0, 3.0]), (9, [1.0, 2.0, 3.0])])
def test_clients_get_as_many_points_as_they_ask_for(num_points, rates):
    """The latest ones; the scheduler's own snapshot keeps all."""
    with monitored() as (dask, monitor, clock):
        for num_read in (0, 1, 3, 6):
            hear(dask, num_read=num_read)
            clock.advance(1.0)

        asked = pickle.loads(dask.scheduler.handlers[SNAPSHOT](num_points=num_points))

        assert [point.rate for point in asked.jobs[0].points] == rates
        assert len(monitor.snapshot().jobs[0].points) == 3


def test_a_client_that_leaves_loses_its_jobs():
    """As Dask tells when a driver is killed; the pause of such a job is forgotten."""
    with monitored(ALLOWED) as (dask, monitor, _):
        dask.connect("driver")
        hear(dask, client="driver")
        hear(dask, job="rag/2", client="client")
        monitor.actions.pause("rag/1")
        is_paused = core_of(dask).jobs.paused == {"rag/1"}

        dask.disconnect("driver")

        states = {job.name: job.state for job in monitor.snapshot().jobs}
        assert states == {"rag/1": "lost", "rag/2": "running"}
        assert is_paused
        assert core_of(dask).jobs.paused == set()


def test_the_pause_of_a_job_ends_with_it():
    """However it ended; its name is in no list any more, also after a restart."""
    with monitored(ALLOWED) as (dask, monitor, _):
        hear(dask)
        monitor.actions.pause("rag/1")

        hear(dask, outcome="JobCancelledError")
        at_once = set(core_of(dask).jobs.paused)
        dask.restart()

        assert at_once == core_of(dask).jobs.paused == set()


def test_a_pause_outlives_a_restart_of_the_counts():
    """It is noted in the settings, from which a dispatcher is made anew."""
    with monitored(ALLOWED) as (dask, monitor, _):
        hear(dask)
        monitor.actions.pause("rag/1")

        dask.restart()

        assert core_of(dask).jobs.paused == {"rag/1"}


def test_a_paused_job_starts_nothing_until_it_is_resumed():
    """What it had under way runs on."""
    with monitored(ALLOWED) as (dask, monitor, _):
        dask.add_worker("a", threads=1)
        dask.submit(tasks(2), ours())
        hear(dask)

        dask.do(monitor.actions.pause, "rag/1")
        (under_way,) = dask.running_on("a")
        state = monitor.snapshot().jobs[0].state
        dask.finish(under_way)
        while_paused = dask.running_on("a")
        dask.do(monitor.actions.resume, "rag/1")

        assert while_paused == set()
        assert {under_way, *dask.running_on("a")} == {"t-0", "t-1"}
        assert state == "paused"


def test_the_last_notices_are_kept_with_their_times():
    """Fifty of them; events of others are none."""
    with monitored() as (dask, monitor, clock):
        for number in range(60):
            clock.advance(1.0)
            said = {"kind": "policy", "text": str(number)}
            dask.do(dask.scheduler.log_event, "sage-dask", said)
            dask.do(dask.scheduler.log_event, "sage-dask-requests", said)

        notices = monitor.snapshot().notices

    assert [(at_s, notice.text) for at_s, notice in notices] == [
        (101.0 + number, str(number)) for number in range(10, 60)
    ]


def test_news_that_can_not_be_read_are_counted_and_told_once(caplog):
    """Nobody's run is the worse for it, and what comes next is heard."""
    with monitored() as (dask, monitor, _), caplog.at_level(logging.CRITICAL):
        for _ in range(3):
            dask.do(dask.scheduler.handlers[NEWS], job="rag/1", client="client", news=b"planted")
        dask.do(dask.scheduler.log_event, "sage-dask", "no notice")
        hear(dask, num_read=1)

        snapshot = monitor.snapshot()

    assert monitor.num_errors == 4
    assert snapshot.jobs[0].progress.num_read == 1
    assert [notice.kind for _, notice in snapshot.notices] == ["monitor"]
    assert sum(record.levelname == "CRITICAL" for record in caplog.records) == 1
    assert "the monitor broke (UnpicklingError" in caplog.text


def test_page_and_metrics_are_opened_and_may_break(monkeypatch):
    """They get the monitor; one that breaks does not keep the other from opening."""
    shown = []

    def broken(scheduler, monitor):
        raise RuntimeError("planted")

    monkeypatch.setattr(monitor_module, "mount", broken)
    monkeypatch.setattr(monitor_module, "register", shown.append)

    with monitored() as (_, monitor, _clock):
        assert monitor.num_errors == 1
        assert shown == [monitor]


def test_a_second_registration_changes_nothing():
    """Each run brings a monitor along, and the first one stays."""
    with monitored() as (dask, monitor, _):
        hear(dask)
        dask.register(MonitorPlugin())

        assert dask.scheduler.plugins[MonitorPlugin.name] is monitor
        assert len(monitor.snapshot().jobs) == 1


def test_memory_is_bounded_by_jobs_that_are_shown():
    """A thousand jobs and their notices leave what is seen, and no more."""
    with monitored() as (_, monitor, _clock):
        for number in range(1000):
            job = f"rag/{number}"
            monitor.hear(job, "client", news(0))
            monitor.hear(job, "client", news(1, outcome="done"))

        assert len(monitor.snapshot().jobs) == 33
        assert monitor.num_errors == 0


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("pause", ["rag/1"]),
        ("resume", ["rag/1"]),
        ("cancel", ["rag/1"]),
        ("set_policy", ["pack"]),
        ("set_gate", ["llm", 1.0]),
    ],
)
def test_nothing_may_be_done_from_the_dashboard_unless_it_was_started_so(action, arguments):
    """The refusal says how; the snapshot says that it would."""
    with monitored() as (dask, monitor, _):
        hear(dask)
        with pytest.raises(PlanError, match="DASK_SAGE__ALLOW_CONTROL=true"):
            getattr(monitor.actions, action)(*arguments)

        assert not monitor.snapshot().may_control
        assert core_of(dask).policy.name == "fifo"


def test_policy_and_gates_are_set_where_that_is_allowed():
    """As any client would; what nobody knows is refused."""
    with monitored(ALLOWED) as (dask, monitor, _):
        monitor.actions.set_policy("pack")
        monitor.actions.set_gate("llm", 3)
        with pytest.raises(PlanError, match="did you mean 'pack'"):
            monitor.actions.set_policy("pakc")

        assert monitor.snapshot().may_control
        assert core_of(dask).policy.name == "pack"
        assert core_of(dask).gates["llm"].limit == 3


def test_a_job_that_does_not_run_can_not_be_acted_on():
    """A page may be older than the job's end."""
    with monitored(ALLOWED) as (dask, monitor, _):
        hear(dask, outcome="done")
        with pytest.raises(PlanError, match="no job 'rag/1' runs here"):
            monitor.actions.pause("rag/1")

        assert core_of(dask).jobs.paused == set()


def test_where_dask_places_jobs_are_cancelled_but_not_paused():
    """Only who holds tasks can pause them; drivers hear orders either way."""
    with monitored(ALLOWED, is_placed=False) as (dask, monitor, _):
        hear(dask)
        dask.do(monitor.actions.cancel, "rag/1")
        with pytest.raises(PlanError, match="stock Dask places all tasks here"):
            monitor.actions.pause("rag/1")

        (event,) = dask.scheduler.get_events("sage-dask-orders")
        assert event[1] == {
            "job": "rag/1",
            "what": "cancel",
            "by": "an operator in the dashboard",
        }
