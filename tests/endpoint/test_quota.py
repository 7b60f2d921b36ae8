"""Servers that want to be left alone by everyone."""

from __future__ import annotations

from sage_dask.endpoint.quota import Quota


def test_a_paused_endpoint_is_left_alone_until_its_time():
    """Others go on meanwhile, and a shorter wish does not shorten a longer one."""
    quota = Quota(["a", "b"])

    quota.pause("a", 100.0)
    quota.pause("a", 50.0)

    assert quota.open_endpoints(0.0) == quota.open_endpoints(75.0) == ("b",)
    assert quota.wait_s(0.0) == 0.0
    assert quota.open_endpoints(100.0) == ("a", "b")


def test_the_first_to_come_back_ends_the_wait():
    """With all endpoints paused, the wait is that of the earliest."""
    quota = Quota(["a", "b"])

    quota.pause("a", 100.0)
    quota.pause("b", 30.0)

    assert quota.open_endpoints(10.0) == ()
    assert quota.wait_s(10.0) == 20.0
