"""How far tasks run ahead of their servers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.limit import RequestLimit
from sage_dask.endpoint.report import RequestReport
from sage_dask.scheduling.backlog import SILENT_S, Backlog
from sage_dask.scheduling.ledger import Lease
from sage_dask.scheduling.servers import Servers, Want
from tests.scheduling.building import asking, task

A, B = "http://a/v1", "http://b/v1"


def backlog(**limits):
    """Return a backlog in front of servers ``a`` and ``b`` with these limits, ten by default."""
    servers = Servers()
    for endpoint, name in ((A, "a"), (B, "b")):
        servers.declare(endpoint, RequestLimit(limits.get(name, 10)))
    return Backlog(servers), servers


def lease(key, *endpoints, requests=4, worker="w", job="rag/1"):
    """Return the lease of a task that has just started."""
    what = asking(key, *(endpoints or (A,)), requests=requests, job=job)
    return Lease(what, worker, worker, 0.0, 0.0)


# Room


def test_tasks_start_until_limit_and_runway_are_reached():
    """At a limit of ten there is room below twenty requests, and none at twenty."""
    book, _ = backlog()
    book.open(lease(1, requests=19))
    assert book.has_room((A,))

    book.open(lease(2, requests=1))

    assert not book.has_room((A,))
    assert book.outstanding((A,)) == book.wanted((A,)) == 20


def test_one_task_may_be_larger_than_the_limit():
    """What is asked is whether there is room, not how much: any batch starts at an idle server."""
    book, _ = backlog(a=1)

    assert book.has_room((A,))
    book.open(lease(1, requests=500))

    assert not book.has_room((A,))


def test_a_closed_server_has_no_room():
    """Not even for the runway that its former speed would make long."""
    book, servers = backlog()
    book.tick(0.0)
    held = lease(1, requests=400)
    book.open(held)
    book.correct(held, 5)
    book.tick(1.0)
    assert book.wanted((A,)) > 50

    servers.set_limit(A, 0)

    assert book.wanted((A,)) == 0
    assert not book.has_room((A,))


def test_a_server_nobody_declared_has_the_room_of_a_first_guess():
    """A task may start before anything is known; the limit will be found."""
    book, _ = backlog()

    assert book.has_room(("http://unknown/v1",))


def test_a_task_without_servers_leaves_no_trace():
    """It has requests to nobody, whatever a report says of it."""
    book, _ = backlog()
    held = Lease(task(1), "w", "w", 0.0, 0.0)

    book.open(held)
    book.correct(held, 9)
    book.close(held)

    assert held.outstanding == 0
    assert list(book.wants()) == []


# Counting


def test_a_report_corrects_what_was_expected():
    """A task of four records that sends six requests counts six, and none at its end."""
    book, _ = backlog()
    held = lease(1, requests=4)
    book.open(held)

    book.correct(held, 6)
    assert (held.outstanding, book.outstanding((A,))) == (6, 6)
    book.close(held)

    assert (held.outstanding, book.outstanding((A,))) == (0, 0)


def test_wants_say_who_has_requests_for_whom():
    """By worker, job and servers, added up; who has none is not named."""
    book, _ = backlog()
    done = lease(4, worker="x")
    for held in (lease(1), lease(2), lease(3, A, B, job="etl/1"), done):
        book.open(held)

    book.close(done)

    assert sorted(book.wants(), key=str) == [
        Want("w", "etl/1", (A, B), 4),
        Want("w", "rag/1", (A,), 8),
    ]


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(["open", "correct", "close", "tick"])),
        max_size=40,
    ),
    numbers=st.lists(st.integers(0, 30), min_size=40, max_size=40),
)
def test_counts_are_sums_over_leases(steps, numbers):
    """After any events, what is outstanding is what open leases have, by asker and in all."""
    book, _ = backlog()
    leases = {}
    for now_s, ((key, event), number) in enumerate(zip(steps, numbers, strict=False)):
        if event == "open" and key not in leases:
            leases[key] = lease(key, requests=number, worker=f"w{key % 2}")
            book.open(leases[key])
        elif event == "correct" and key in leases:
            book.correct(leases[key], number)
        elif event == "close" and key in leases:
            book.close(leases.pop(key))
        elif event == "tick":
            for worker in ("w0", "w1"):
                book.heard(worker, float(now_s))
            book.tick(float(now_s))

    assert book.outstanding((A,)) == sum(held.outstanding for held in leases.values())
    by_worker = {want.worker: want.outstanding for want in book.wants()}
    for name in ("w0", "w1"):
        of_worker = sum(held.outstanding for held in leases.values() if held.worker == name)
        assert by_worker.get(name, 0) == of_worker


# Replicas that are shared in part


def test_requests_for_two_replicas_count_for_each_by_its_limit():
    """Of thirty for a (limit 10) or b (limit 20), ten are a's; all of a's are the pair's."""
    book, _ = backlog(b=20)
    book.open(lease(1, A, B, requests=30))
    assert book.outstanding((A,)) == pytest.approx(10)
    assert book.outstanding((B,)) == pytest.approx(20)

    book.open(lease(2, A, requests=3))

    assert book.outstanding((A, B)) == 33
    assert book.outstanding((A,)) == pytest.approx(13)


def test_other_servers_requests_do_not_count():
    """A server is not full because another one is."""
    book, _ = backlog()
    book.open(lease(1, A, requests=30))

    assert book.outstanding((B,)) == 0


def test_replicas_that_are_all_others_use_have_no_room_for_one_of_them():
    """A server that others have filled together with its replica is full, if they are alone too."""
    book, _ = backlog()
    book.open(lease(1, A, B, requests=40))

    assert not book.has_room((A,))


@pytest.mark.parametrize("per_s", [0, 1000])
def test_one_replica_is_not_kept_from_who_needs_it_by_who_could_use_another(per_s):
    """Jobs on both replicas fill them to the brim; who needs one starts as some of theirs end.

    However fast the servers are, which makes everybody's runway longer.
    """
    book, _ = backlog()
    book.tick(0.0)
    spread = lease(1, A, B, requests=per_s)
    book.open(spread)
    book.correct(spread, 0)
    book.tick(1.0)
    full = int(book.wanted((A, B)))
    book.correct(spread, full)
    assert not book.has_room((A, B))

    book.correct(spread, full - 2)

    assert book.has_room((A,))


def test_with_all_servers_closed_shared_requests_are_divided_evenly():
    """Nothing is divided by a limit of zero."""
    book, _ = backlog(a=0, b=0)
    book.open(lease(1, A, B, requests=6))

    assert book.outstanding((A,)) == 3


# How fast


def test_the_runway_grows_with_the_rate_of_answers():
    """At 400 answers a second, a quarter of a second's worth lies ready once that is known."""
    book, _ = backlog()
    book.tick(0.0)
    for second in range(1, 12):
        held = lease(second, requests=400)
        book.open(held)
        book.close(held)
        book.tick(float(second))

    assert book.wanted((A,)) == pytest.approx(10 + 0.25 * 400, rel=0.01)


def test_the_runway_shrinks_when_answers_cease():
    """What was fast a minute ago says nothing any more."""
    book, _ = backlog()
    held = lease(1, requests=801)
    book.open(held)
    book.tick(0.0)
    book.correct(held, 1)
    book.tick(1.0)
    assert book.wanted((A,)) == 10 + 0.25 * 400

    for now_s in range(2, 12):
        book.tick(float(now_s))

    assert book.wanted((A,)) == 20


def test_new_requests_are_no_answers():
    """A task that turns out to have more requests than was thought says nothing of speed."""
    book, _ = backlog()
    held = lease(1, requests=1)
    book.open(held)
    book.tick(0.0)

    book.correct(held, 900)
    book.tick(1.0)

    assert book.wanted((A,)) == 20


def test_ticks_at_one_moment_measure_nothing():
    """Two looks at the same time are one."""
    book, _ = backlog()
    held = lease(1, requests=9)
    book.open(held)
    book.tick(1.0)
    book.correct(held, 0)

    book.tick(1.0)

    assert book.wanted((A,)) == 20


def test_nothing_is_remembered_of_those_who_are_done():
    """Jobs and workers come and go for months."""
    book, _ = backlog()
    for number in range(50):
        held = lease(number, worker=f"w{number}", job=f"rag/{number}")
        book.open(held)
        book.close(held)
        book.tick(float(number))

    book.tick(51.0)

    assert not book._by_asker
    assert not book._by_endpoints
    assert not book._per_s


# Open or not


def test_servers_are_open_while_one_takes_requests():
    """Closed by hand or down for all it is worth: another replica will do."""
    book, servers = backlog(a=0)
    servers.observe_report("w", RequestReport(down_s={B: 3.0}), 0.0)
    assert not book.is_open((A,))
    assert not book.is_open((B,))
    assert not book.is_open((A, B))

    servers.set_limit(A, 1)

    assert book.is_open((A, B))


def test_requests_of_a_silent_worker_keep_nobody_waiting():
    """Those of a worker that has stopped count no more after five seconds, until it reports."""
    book, _ = backlog()
    stuck = lease(1, requests=20)
    book.open(stuck)
    book.tick(1.0)
    assert not book.has_room((A,))

    book.tick(SILENT_S + 1.5)

    assert book.has_room((A,))
    assert book.silent == {stuck.worker}
    book.heard(stuck.worker, SILENT_S + 2.0)
    assert not book.has_room((A,))
