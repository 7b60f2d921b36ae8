"""Where a scheduler listens, and who decides on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage_dask.doctor.finding import Mark
from sage_dask.doctor.scheduler import (
    Dispatching,
    SchedulerFacts,
    dashboard_finding,
    scheduler_findings,
)
from sage_dask.doctor.settings import SchedulerSettings

FACTS = SchedulerFacts(
    listens=("tcp://127.0.0.1:8786",),
    dashboard_hosts=("127.0.0.1",),
    dashboard_port=8787,
    dispatching=Dispatching("spread", False, {}, 3),
    settings=SchedulerSettings(60, 0, 3600, None, True),
)
URL = "http://head:8787/status"


def test_loopback_and_a_dispatcher_are_well():
    """Both are named."""
    listens, decides = scheduler_findings(FACTS)

    assert (listens.mark, decides.mark) == (Mark.OK, Mark.OK)
    assert listens.value == "listens at tcp://127.0.0.1:8786"
    assert decides.value == "policy 'spread', 3 tasks waiting"


@pytest.mark.parametrize(
    ("address", "mark"),
    [
        ("tcp://0.0.0.0:8786", Mark.WARN),
        ("tcp://[::]:8786", Mark.WARN),
        ("tls://0.0.0.0:8786", Mark.OK),
        ("tcp://10.0.0.7:8786", Mark.OK),
        ("inproc://10.0.0.7/1/2", Mark.OK),
    ],
)
def test_all_interfaces_without_tls_are_a_danger(address, mark):
    """Whoever reaches such a port runs code; with TLS only those with a certificate do."""
    found, _ = scheduler_findings(replace(FACTS, listens=(address,)))

    assert found.mark is mark
    assert address in found.value
    assert ("runs code" in found.advice) == (mark is Mark.WARN)


def test_a_dashboard_for_everybody_is_warned_of():
    """It has no login; the advice names its port."""
    found = list(scheduler_findings(replace(FACTS, dashboard_hosts=("0.0.0.0", "::"))))[1]

    assert (found.mark, found.what) == (Mark.WARN, "dashboard")
    assert "127.0.0.1:8787" in found.advice


def test_a_scheduler_without_a_dispatcher_gets_one():
    """That is no fault: the first run brings it."""
    *_, found = scheduler_findings(replace(FACTS, dispatching=None))

    assert found.mark is Mark.NOTE
    assert "--preload" in found.advice


def test_a_dispatcher_that_broke_off_fails():
    """Nothing would be placed any more."""
    broken = Dispatching("pack", True, {}, 0)

    *_, found = scheduler_findings(replace(FACTS, dispatching=broken))

    assert (found.mark, "'pack'" in found.value) == (Mark.FAIL, True)


@pytest.mark.parametrize(
    ("hosts", "fault", "mark", "told"),
    [
        (("127.0.0.1",), "", Mark.OK, URL),
        (("127.0.0.1",), "GET /status is answered 404", Mark.NOTE, "none at"),
        (("127.0.0.1",), "Connection refused", Mark.NOTE, "loopback only, port 8787"),
        (("0.0.0.0",), "timed out", Mark.WARN, "does not answer from here (timed out)"),
    ],
)
def test_whether_the_dashboard_is_seen_from_here(hosts, fault, mark, told):
    """One on loopback is looked at through ssh; another that does not answer is behind a wall."""
    found = dashboard_finding(replace(FACTS, dashboard_hosts=hosts), URL, fault)

    assert found.mark is mark
    assert told in found.value
    assert ("ssh -L 8787:127.0.0.1:8787 head" in found.advice) == ("loopback" in told)
