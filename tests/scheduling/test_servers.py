"""All model servers of a cluster: how many requests each takes, and who may send them."""

from __future__ import annotations

import pytest

from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.limit import RequestLimit
from sage_dask.endpoint.report import Outcomes, RequestReport
from sage_dask.errors import PlanError
from sage_dask.scheduling.servers import Allotment, Servers, Share, Want

A, B = "http://a/v1", "http://b/v1"


def fixed(limit, *endpoints):
    """Return servers of one fixed limit each."""
    servers = Servers()
    for endpoint in endpoints or (A,):
        servers.declare(endpoint, RequestLimit(limit))
    return servers


def want(worker, outstanding, job="rag", endpoints=(A,)):
    """Return a demand of one worker."""
    return Want(worker, job, endpoints, outstanding)


def knows(servers, worker, version, in_flight=0):
    """Have a worker say that it goes by an allotment."""
    report = RequestReport(in_flight={(A, "rag"): in_flight}, version=version)
    servers.observe_report(worker, report, 0.0)


def test_the_first_allotment_gives_all_slots_at_once():
    """A raise needs nobody's consent, and an unchanged allotment is not sent again."""
    servers = fixed(64)
    wants = [want("x", 100), want("y", 100)]

    first = servers.allot(wants, {}, 0.0)

    assert first == {
        "x": Allotment(1, {A: {"rag": 32}}),
        "y": Allotment(1, {A: {"rag": 32}}),
    }
    assert servers.allot(wants, {}, 0.0) == {}


def test_a_slot_taken_back_is_given_on_only_when_its_worker_knows():
    """Until then it counts as used, and afterwards as far as it is used."""
    servers = fixed(8)
    servers.allot([want("x", 8)], {}, 0.0)
    knows(servers, "x", 1, in_flight=8)
    both = [want("x", 8), want("y", 8)]

    assert servers.allot(both, {}, 0.0) == {"x": Allotment(2, {A: {"rag": 4}})}
    knows(servers, "x", 1, in_flight=5)
    assert servers.allot(both, {}, 0.0) == {}
    knows(servers, "x", 2, in_flight=5)
    assert servers.allot(both, {}, 0.0) == {"y": Allotment(1, {A: {"rag": 3}})}
    knows(servers, "x", 2, in_flight=4)
    assert servers.allot(both, {}, 0.0) == {"y": Allotment(2, {A: {"rag": 4}})}


def test_slots_that_came_free_are_given_once():
    """Two workers that wait for slots of a third do not both have them."""
    servers = fixed(9)
    servers.allot([want("x", 9)], {}, 0.0)
    knows(servers, "x", 1, in_flight=9)
    wants = [want("x", 9), want("y", 9), want("z", 9)]
    servers.allot(wants, {}, 0.0)

    knows(servers, "x", 2, in_flight=6)
    changes = servers.allot(wants, {}, 0.0)

    assert changes == {"y": Allotment(1, {A: {"rag": 3}})}


def test_slots_of_a_worker_that_left_are_free_at_once():
    """Its connections are cut, so its requests end."""
    servers = fixed(8)
    servers.allot([want("x", 8)], {}, 0.0)
    knows(servers, "x", 1, in_flight=8)

    servers.worker_left("x", 1.0)

    assert servers.in_flight(A) == 0
    assert servers.allot([want("y", 8)], {}, 1.0) == {"y": Allotment(1, {A: {"rag": 8}})}


def test_a_job_that_ended_leaves_no_slots_behind():
    """The whole state is sent: what is not named has none."""
    servers = fixed(8)
    servers.allot([want("x", 8), want("x", 8, job="old")], {}, 0.0)

    changes = servers.allot([want("x", 8)], {}, 0.0)

    assert changes == {"x": Allotment(2, {A: {"rag": 4}})}
    knows(servers, "x", 2)
    assert servers.allot([want("x", 8)], {}, 0.0) == {"x": Allotment(3, {A: {"rag": 8}})}


def test_jobs_share_by_weight_up_to_their_quota():
    """Weights and quotas hold per server."""
    servers = fixed(12, A, B)
    wants = [want("x", 50, job, (endpoint,)) for job in ("a", "b") for endpoint in (A, B)]

    slots = servers.allot(wants, {"a": Share(3.0, quota={B: 2})}, 0.0)["x"].slots

    assert slots == {A: {"a": 9, "b": 3}, B: {"a": 2, "b": 10}}


def test_replicas_share_a_demand_by_their_limits():
    """Slots nobody wants of one replica are no reason to lack some of the other."""
    servers = fixed(60, A)
    servers.declare(B, RequestLimit(20))

    slots = servers.allot([want("x", 40, endpoints=(A, B)), want("y", 400, "other", (A,))], {}, 0.0)

    assert slots["x"].slots == {A: {"rag": 30}, B: {"rag": 20}}
    assert slots["y"].slots == {A: {"other": 30}}


def test_a_replica_that_is_down_is_only_tried():
    """The demand goes to the others, but for one request that finds out."""
    servers = fixed(20, A, B)
    servers.observe_report("x", RequestReport(down_s={A: 3.0}), 0.0)

    slots = servers.allot([want("x", 20, endpoints=(A, B)), want("y", 100, "other", (A,))], {}, 0.0)

    assert slots["x"].slots == {A: {"rag": 1}, B: {"rag": 20}}
    assert slots["y"].slots == {A: {"other": 19}}
    assert servers.down_s(A) == 3.0
    assert servers.down_s(B) is None


def test_a_lowered_limit_takes_slots_back_and_a_raised_one_gives_them_again():
    """By hand, 0 closes; nothing is given out while more is under way than the limit."""
    servers = fixed(8)
    wants = [want("x", 8)]
    servers.allot(wants, {}, 0.0)
    knows(servers, "x", 1, in_flight=8)

    servers.set_limit(A, 0)
    assert servers.allot(wants, {}, 0.0) == {"x": Allotment(2, {})}
    knows(servers, "x", 2, in_flight=6)
    servers.set_limit(A, 4.0)
    assert servers.allot([*wants, want("y", 8)], {}, 0.0) == {"x": Allotment(3, {A: {"rag": 2}})}
    assert servers.statistics()[A].allotted == 6


def test_the_same_declaration_again_leaves_a_limit_by_hand_alone():
    """Another declaration changes it; None by hand makes it adaptive."""
    servers = fixed(64)
    servers.set_limit(A, 10)

    servers.declare(A, RequestLimit(64))
    assert servers.capacity([A]) == 10
    servers.declare(A, RequestLimit(32))
    assert servers.capacity([A]) == 32
    servers.set_limit(A, None)
    assert servers.statistics()[A].is_adaptive


def test_a_limit_is_no_negative_number():
    """The message says what to give."""
    with pytest.raises(PlanError, match="limit of -1 requests; give 0 to close"):
        Servers().set_limit(A, -1)


def test_an_adaptive_limit_follows_gauges_and_outcomes():
    """Gauges raise it while all is used; refusals lower it; the ceiling holds."""
    servers = Servers()
    servers.declare(A, RequestLimit(ceiling=12))
    servers.allot([want("x", 100)], {}, 0.0)
    knows(servers, "x", 1, in_flight=8)

    servers.observe_gauges(A, Gauges(running=8, waiting=0), 0.0)
    grown = servers.statistics()[A]
    outcomes = RequestReport(outcomes={A: Outcomes(busy=9)}, version=1)
    servers.observe_report("x", outcomes, 10.0)

    assert (grown.limit, grown.running, grown.waiting, grown.in_flight) == (12, 8, 0, 8)
    assert servers.statistics()[A].limit == 8
    assert "9 turned away" in servers.statistics()[A].reason


def test_only_servers_that_are_used_are_polled():
    """A quarter of a second apart while the limit is sought, a second where it is fixed."""
    servers = fixed(8, B)
    servers.declare(A)
    assert servers.polls(0.0) == []
    assert servers.next_poll_s is None

    servers.allot([want("x", 1), want("x", 1, endpoints=(B,))], {}, 0.0)

    assert servers.next_poll_s == 0.25
    assert servers.polls(0.0) == [B, A]
    assert servers.polls(0.1) == []
    assert servers.polls(0.25) == [A]
    assert servers.polls(1.0) == [B, A]
    servers.allot([], {}, 2.0)
    assert servers.polls(3.0) == []


def test_a_silent_worker_is_remembered_for_all_it_was_ever_told():
    """However many allotments it has not confirmed, none of their slots is given away."""
    servers = fixed(100)
    for limit in (100, *range(1, 40)):
        servers.set_limit(A, limit)
        servers.allot([want("x", 1000)], {}, 0.0)

    servers.set_limit(A, 100)
    changes = servers.allot([want("x", 1000), want("y", 1000)], {}, 0.0)

    assert "y" not in changes
    assert servers.claimed(A) == 100


def test_it_says_how_full_its_servers_are():
    """The repr is for people at a debugger."""
    servers = fixed(8)
    knows(servers, "x", 0, in_flight=3)

    assert repr(servers) == f"<Servers {A} 3/8; 1 workers>"


def test_a_server_that_was_long_of_no_use_is_forgotten():
    """Ten minutes after the last request its limit is found anew; one set by hand stays."""
    servers = Servers()
    for endpoint in ("http://found/v1", "http://fixed/v1"):
        servers.declare(endpoint)
        servers.allot([Want("w", "j", (endpoint,), 1)], {}, 0.0)
        servers.polls(0.0)
    servers.set_limit("http://fixed/v1", 5)
    servers.allot([], {}, 1.0)

    servers.drop_unused(500.0)
    assert set(servers.statistics()) == {"http://found/v1", "http://fixed/v1"}
    servers.drop_unused(700.0)

    assert set(servers.statistics()) == {"http://fixed/v1"}
