"""Who holds what: leases of running tasks, and of cancelled ones that run on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sage_dask.scheduling.ledger import Lease, Ledger
from tests.scheduling.building import task


def lease(key, worker="w1"):
    """Return a lease of a task on a worker."""
    return Lease(task(key), worker, "n1", 0.0, 0.5)


def test_a_lease_is_closed_once():
    """The second end of a task gives nothing back."""
    ledger = Ledger()
    opened = lease("a")
    ledger.open(opened)

    assert ledger.close("a") is opened
    assert ledger.close("a") is None


def test_an_abandoned_lease_is_kept_until_its_worker_is_done():
    """It is no running task any more, and still counts."""
    ledger = Ledger()
    ledger.open(lease("a"))

    ledger.abandon("a", 3.0)

    assert not ledger.running
    assert [each.abandoned_s for each in ledger] == [3.0]
    assert ledger.close("a") is None
    assert ledger.close_abandoned("a", "w2") is None
    assert ledger.close_abandoned("a", "w1") is not None
    assert len(ledger) == 0


def test_the_same_worker_takes_over_what_it_is_still_at():
    """A task that is asked for again there does not run twice, so one lease is enough."""
    ledger = Ledger()
    ledger.open(lease("a"))
    abandoned = ledger.abandon("a", 1.0)

    assert ledger.open(lease("a")) is abandoned
    assert len(ledger) == 1


def test_another_worker_takes_over_nothing():
    """The task then runs in both places and holds both."""
    ledger = Ledger()
    ledger.open(lease("a", "w1"))
    ledger.abandon("a", 1.0)

    assert ledger.open(lease("a", "w2")) is None
    assert {each.worker for each in ledger} == {"w1", "w2"}


def test_abandoning_what_does_not_run_is_nothing():
    """A late event is no error."""
    assert Ledger().abandon("a", 1.0) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["open", "close", "abandon", "end"]),
        st.sampled_from("ab"),
        st.sampled_from(["w1", "w2"]),
    ),
    max_size=30,
)


@given(STEPS)
def test_every_lease_comes_back_exactly_once(steps):
    """However tasks start, end and are abandoned: opened = come back + still there."""
    ledger, opened, back = Ledger(), 0, []

    for what, key, at in steps:
        if what == "open" and key not in ledger.running:
            back.append(ledger.open(lease(key, at)))
            opened += 1
        elif what == "close":
            back.append(ledger.close(key))
        elif what == "abandon" and (key, at) not in ledger.abandoned:
            if key in ledger.running and ledger.running[key].worker == at:
                ledger.abandon(key, 1.0)
        elif what == "end":
            back.append(ledger.close_abandoned(key, at))

        returned = [id(each) for each in back if each is not None]
        assert len(returned) == len(set(returned))
        assert opened == len(returned) + len(ledger)
