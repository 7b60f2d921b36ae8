"""Deadlines of calls: what is too late, what is cancelled, what is told."""

from __future__ import annotations

import asyncio
import threading

import pytest

from sage_dask import aio
from sage_dask.deadline import DeadlineError, check_in_time, in_time, reported
from sage_dask.operators.basic import Map
from sage_dask.stage import Stage


def stage_of(deadline_s, function=lambda record: record):
    """Return a stage with a deadline."""
    return Stage("parse", Map(function), deadline_s=deadline_s)


@pytest.mark.parametrize(("deadline_s", "seconds"), [(None, 1e9), (2, 1.9), (2, 2)])
def test_what_came_in_time_is_kept(deadline_s, seconds):
    """The deadline itself is in time, and without one everything is."""
    check_in_time(stage_of(deadline_s), seconds)


def test_what_came_too_late_is_refused():
    """The message tells stage, found, wanted and the mend."""
    with pytest.raises(
        DeadlineError, match=r"stage 'parse': took 2.5 s, more than deadline_s=2; raise it, or mend"
    ):
        check_in_time(stage_of(2), 2.5)


def test_a_wait_ends_at_its_deadline():
    """What would wait for ever is cancelled, and hears of it."""
    heard = []

    async def for_ever():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    with pytest.raises(DeadlineError, match=r"not finished within deadline_s=0\.1, so it was"):
        aio.run(in_time(stage_of(0.1), for_ever()))

    assert heard == ["cancelled"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_that_ends_in_time_is_not_told_of(is_async, caplog):
    """No report is made of it, and no thread is left to make one."""

    async def wait(record):
        return record

    before = threading.active_count()

    with reported(stage_of(1000, wait if is_async else lambda record: record), 3):
        pass

    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
    assert threading.active_count() <= before
    assert caplog.messages == []
