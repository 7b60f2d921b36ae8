"""Tasks that send requests, as the dispatcher starts them and divides their servers' slots."""

from __future__ import annotations

import pytest

from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.limit import RequestLimit
from sage_dask.endpoint.report import Outcomes, RequestReport
from sage_dask.errors import PlanError
from sage_dask.scheduling.nodes import WAITING_TASK_S
from tests.scheduling.building import (
    OTHER_URL,
    URL,
    asking,
    dispatch,
    dispatcher,
    keys,
    submit,
    task,
    worker,
)


def serving(*workers, limit=10, policy="spread", **options):
    """Return a dispatcher of these workers, by default one, that knows a server."""
    core = dispatcher(policy, *(workers or (worker("w", threads=2),)), **options)
    core.server_needed(URL, RequestLimit(limit))
    return core


def said(core, worker="w", *, now=0.0, **what):
    """Have a worker report."""
    core.requests_reported(worker, RequestReport(**what), now)


# What starts


def test_tasks_that_ask_start_as_far_as_the_server_has_room():
    """At a limit of seven and four requests a task, four tasks make the fourteen wanted."""
    core = serving(limit=7)

    assert keys(submit(core, *map(asking, range(9)))) == [0, 1, 2, 3]


def test_each_answer_that_is_reported_makes_room():
    """Once thirteen are left another task starts, and no more than one."""
    core = serving(limit=7)
    submit(core, *map(asking, range(9)))

    said(core, outstanding={0: 2})
    assert dispatch(core, 1.0) == []
    said(core, outstanding={0: 1, 1: 4})

    assert keys(dispatch(core, 1.0)) == [4]


def test_a_task_that_ends_makes_room_for_all_that_it_had_left():
    """Whether it is done, has failed, or its worker is gone."""
    core = serving(worker("w"), worker("x"), limit=7)
    first = dict(submit(core, *map(asking, range(20))))
    assert len(first) == 4

    core.task_ended(0, 1.0, seconds=1.0)
    core.task_ended(1, 1.0, how="failed")
    assert len(dispatch(core, 1.0)) == 2
    lost = core.worker_left("w", 2.0)

    assert len(dispatch(core, 2.0)) == len(lost) > 0


def test_a_cancelled_task_counts_until_its_worker_is_done_with_it():
    """Its requests go on, so their room is not given to others before that."""
    core = serving(limit=7)
    submit(core, *map(asking, range(9)))

    core.task_abandoned(0, 1.0)
    assert dispatch(core, 1.0) == []
    said(core, outstanding={0: 1})
    assert keys(dispatch(core, 1.0)) == [4]
    core.abandoned_ended(0, "w", 2.0)

    assert dispatch(core, 2.0) == []
    assert core.backlog.outstanding((URL,)) == 16


def test_what_is_said_of_another_workers_task_or_none_is_ignored():
    """Reports are late: the task may have been lost, and run elsewhere by now."""
    core = serving(worker("w"), worker("x"), limit=2)
    ((key, node),) = submit(core, asking("a", requests=5))
    other = "x" if node == "w" else "w"

    said(core, other, outstanding={key: 0, "nobody": 7})
    said(core, "gone", outstanding={key: 0}, in_flight={(URL, "rag/1"): 5})

    assert core.backlog.outstanding((URL,)) == 5
    assert core.servers.in_flight(URL) == 0
    core.validate()


def test_a_task_without_a_thread_starts_on_a_node_whose_threads_are_all_busy():
    """It only waits, so it goes where there is nothing free, under every policy."""
    for policy in ("fifo", "round-robin", "spread", "pack", "priority"):
        core = serving(worker("w"), policy=policy)
        submit(core, task("computes"))

        assert keys(submit(core, asking("asks"), now=9.0)) == ["asks"], policy


def test_a_task_that_computes_starts_beside_those_that_wait():
    """They hold no thread that it could miss."""
    core = serving(worker("w"))
    submit(core, *map(asking, range(3)))

    assert keys(submit(core, task("computes"))) == ["computes"]


def test_a_paused_worker_gets_no_task_that_asks_either():
    """Paused means that its memory is full."""
    core = serving()
    core.worker_running("w", is_running=False)

    assert submit(core, asking(1)) == []


def test_a_quota_of_threads_does_not_hold_tasks_that_take_none():
    """A job without any thread to its name may still ask."""
    core = serving()
    core.job_arrived("rag/1", quota={"threads": 0})

    assert keys(submit(core, task("computes"), asking("asks"))) == ["asks"]


def test_what_waits_for_one_server_does_not_keep_others_waiting():
    """Tasks behind it, for another server or none, start past it."""
    core = serving(limit=1)
    core.server_needed(OTHER_URL, RequestLimit(1))

    started = keys(submit(core, asking(1), asking(2), asking(3, OTHER_URL), task(4)))

    assert sorted(started) == [1, 3, 4]


# Where they start


def test_tasks_without_threads_go_to_the_worker_that_has_fewest():
    """Of the workers on a node with equally many idle threads, in turn."""
    workers = [worker(f"w{number}", "node") for number in range(3)]
    core = serving(*workers, limit=100)
    for number in range(6):
        core.task_ready(asking(number), 0.0)

    chosen = [start.worker for start in core.dispatch(0.0)]

    assert chosen == ["w0", "w1", "w2"] * 2


def test_they_are_spread_over_nodes():
    """A hundred on four idle nodes are about as many on each, under ``spread``.

    Loads that differ by less than a quarter of a typical task, or four that wait, are equal.
    """
    core = serving(*(worker(f"w{number}", threads=2) for number in range(4)), limit=400)

    nodes = [node for _, node in submit(core, *map(asking, range(100)))]

    counts = [nodes.count(f"w{number}") for number in range(4)]
    assert sum(counts) == 100
    assert max(counts) - min(counts) <= 5


def test_they_are_hardly_any_load():
    """Ten of them leave a node the best for a task that computes, beside one with a task."""
    core = serving(worker("asks", threads=2), worker("computes", threads=2), limit=200)
    what = [asking(number, workers=frozenset({"asks"})) for number in range(10)]
    submit(core, task("first", workers=frozenset({"computes"})), *what)

    assert submit(core, task("next")) == [("next", "asks")]


def test_what_policies_see_of_them():
    """They are in flight and wait; no more than their own CPU time counts as work ahead."""
    core = serving(worker("w", threads=4))
    submit(core, asking(1), asking(2), task(3))

    view = core.nodes["w"].view(core.durations, 0.0)

    assert (view.in_flight, view.num_waiting, view.num_computing) == (3, 2, 1)
    assert view.outstanding_s == pytest.approx(0.5 + 2 * WAITING_TASK_S)
    assert core.statistics(0.0).nodes["w"].num_waiting == 2


def test_how_long_they_wait_says_nothing_of_nodes_and_computing():
    """A minute of waiting makes no node slow, no task typical, and nobody's work large."""
    core = serving(worker("w"), worker("x"), limit=1000)
    for number in range(40):
        ((_, node),) = submit(core, asking(number, stage="generate"), now=float(number))
        core.task_ended(number, float(number), seconds=60.0 if node == "w" else 1.0)

    assert core.durations.typical_s == 0.5
    assert core.durations.estimate_s("generate") > 1
    assert {node.slowdown.value(40.0) for node in core.nodes} == {1.0}
    for node in core.nodes:
        assert node.placed_s == pytest.approx(node.num_placed * WAITING_TASK_S)
    core.validate()


# Slots


def test_slots_go_to_who_has_requests():
    """All ten to the one worker that has them, and nothing new is told until something changes."""
    core = serving(worker("w"), worker("x"))
    submit(core, asking(1, workers=frozenset({"w"})))

    first = core.allotments(0.0)

    assert {name: dict(each.slots) for name, each in first.items()} == {"w": {URL: {"rag/1": 10}}}
    assert core.allotments(1.0) == {}


def test_two_jobs_share_a_server_by_weight():
    """Twelve slots at weights 3 and 1 are nine and three."""
    core = serving(limit=12)
    core.job_arrived("rag/1", weight=3.0)
    submit(core, asking(1, requests=9), asking(2, requests=9, job="etl/1"))

    slots = core.allotments(0.0)["w"].slots

    assert slots == {URL: {"rag/1": 9, "etl/1": 3}}


def test_slots_of_a_lost_worker_go_to_the_others_at_once():
    """Its connections are cut, so nobody waits for word from it."""
    core = serving(worker("w"), worker("x"))
    names = [frozenset({"w"}), frozenset({"x"})]
    submit(core, *(asking(number, workers=names[number], requests=7) for number in range(2)))
    assert {sum(a.slots[URL].values()) for a in core.allotments(0.0).values()} == {5}

    core.worker_left("w", 1.0)

    assert core.allotments(1.0)["x"].slots == {URL: {"rag/1": 10}}


def test_a_lowered_limit_is_told_at_once():
    """Workers go by it as soon as they hear."""
    core = serving()
    submit(core, asking(1))
    core.allotments(0.0)

    core.set_gate(URL, 2)

    assert core.allotments(1.0)["w"].slots == {URL: {"rag/1": 2}}


def test_gauges_move_a_limit_that_was_not_given():
    """A server that lets nobody wait is given more, and that is told."""
    core = dispatcher("spread", worker("w"))
    core.server_needed(URL, RequestLimit())
    submit(core, asking(1, requests=100))
    before = core.allotments(0.0)["w"].slots[URL]["rag/1"]
    said(core, outstanding={1: 100}, in_flight={(URL, "rag/1"): before}, version=1)

    core.gauges_observed(URL, Gauges(running=before, waiting=0.0), 1.0)

    assert core.allotments(1.0)["w"].slots[URL]["rag/1"] > before


def test_refused_requests_lower_a_limit_that_was_not_given():
    """Without gauges, what is turned away says that it was too much."""
    core = dispatcher("spread", worker("w"))
    core.server_needed(URL, RequestLimit())
    submit(core, asking(1, requests=100))
    before = core.allotments(0.0)["w"].slots[URL]["rag/1"]

    refused = {URL: Outcomes(busy=before)}
    said(core, in_flight={(URL, "rag/1"): before}, outcomes=refused, version=1, now=5.0)

    assert core.allotments(5.0)["w"].slots[URL]["rag/1"] < before


# Settings, and what is told


@pytest.mark.parametrize("spelling", [URL, f"{URL}/", URL.replace("gpu", "GPU")])
def test_a_gate_with_a_url_is_a_servers_limit(spelling):
    """Whichever way it is written; there is no gate of that name beside it."""
    core = serving()

    core.set_gate(spelling, 3)

    assert core.servers.statistics()[URL].limit == 3
    assert core.statistics(0.0).gates == {}


def test_a_gate_without_a_limit_finds_its_own_again():
    """None takes the fixed limit away."""
    core = serving()

    core.set_gate(URL, None)

    assert core.servers.statistics()[URL].is_adaptive


def test_what_a_job_asks_does_not_undo_what_an_operator_set():
    """The same task's annotation comes with every batch."""
    core = serving(limit=None)
    core.set_gate(URL, 3)

    core.server_needed(URL, RequestLimit(None))

    assert core.servers.statistics()[URL].limit == 3


def test_a_limit_below_zero_is_refused():
    """With the number, and what to give instead."""
    core = serving()

    with pytest.raises(PlanError, match="limit of -1 requests; give 0 to close it"):
        core.set_gate(URL, -1)


def test_jobs_are_told_of_room_and_outages():
    """Limit, requests that should be there, and for how long the server has been down."""
    core = serving()
    said(core, down_s={URL: 2.5})

    load = core.load()

    assert (load.servers[URL].limit, load.servers[URL].down_s) == (10, 2.5)
    assert load.wanted == {URL: 20}


def test_why_says_that_a_task_waits_for_a_server():
    """With the counts that decide, and how many are before it."""
    core = serving(limit=7)
    submit(core, *map(asking, range(9)))

    last = core.why(8, 1.0)[-1]

    assert last.endswith(
        f"waits for {URL}: started tasks have 16 requests without an answer, and are to have 14; "
        "4 of job 'rag/1' before it, 5 in all need the same"
    )


# Closed and down


def test_a_closed_server_starts_nothing_and_says_so():
    """Zero closes it; people are told once how to open it, and then it goes on."""
    core = serving()
    core.set_gate(URL, 0)
    assert submit(core, asking(1)) == []

    notices = [notice for now in range(5) for notice in core.tick(float(now))]
    core.set_gate(URL, 1)

    assert [notice.kind for notice in notices] == ["unplaceable"]
    assert f"which is closed; open it with set_gate({URL!r}, ...)" in notices[0].text
    assert keys(dispatch(core, 6.0)) == [1]


@pytest.mark.parametrize("is_closed", [True, False])
def test_no_place_is_kept_for_what_waits_for_a_server_that_takes_nothing(is_closed):
    """Closed or down: the gate that the task needs as well is left to others meanwhile."""
    core = serving(worker("w", threads=4), limit=4, patience_s=1.0)
    core.set_gate("db", 1)
    submit(core, asking("fills", requests=8))
    core.task_ready(asking("first", gates={"db": 1}), 0.0)
    dispatch(core)
    if is_closed:
        core.set_gate(URL, 0)
    else:
        said(core, down_s={URL: 1.0})
    dispatch(core, 2.0)

    assert keys(submit(core, task("other", gates={"db": 1}), now=3.0)) == ["other"]


def test_a_place_is_kept_for_what_needs_a_server_and_a_gate():
    """A stream of small tasks on the same server does not starve it: it gets slots, then room."""
    core = serving(worker("w", threads=4), limit=2, patience_s=1.0)
    core.set_gate("db", 2)
    running = keys(submit(core, *(asking(n, gates={"db": 1}, requests=1) for n in range(2))))
    core.task_ready(asking("big", gates={"db": 2}, requests=1), 0.0)
    for number in range(2, 30):
        now = 0.5 * number
        core.task_ready(asking(number, gates={"db": 1}, requests=1, now=now), now)
        core.task_ended(running.pop(0), now, seconds=0.5)
        running += keys(dispatch(core, now))
        if not running or "big" in running:
            break

    assert running == ["big"]
