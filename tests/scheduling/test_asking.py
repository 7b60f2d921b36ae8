"""Servers are asked for their gauges while somebody wants something of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from sage_dask.endpoint.gauges import Gauges
from sage_dask.errors import MissingDependencyError
from sage_dask.scheduling import asking
from sage_dask.scheduling.asking import ask_servers
from sage_dask.scheduling.servers import Servers, Want

A, B = "http://a/v1", "http://b/v1"


class FakeReader:
    """Answers for servers as it is told, and notes who was asked; None says nothing."""

    def __init__(self, **says):
        self.says = {A: Gauges(1, 0), B: Gauges(2, 0), **says}
        self.asked = []
        self.is_closed = False
        self.hangs = asyncio.Event()

    async def read(self, endpoint):
        self.asked.append(endpoint)
        said = self.says[endpoint]
        if said == "hangs":
            await self.hangs.wait()
        return said

    async def close(self):
        self.is_closed = True


def wanted(*endpoints):
    """Return servers of which something is wanted."""
    servers = Servers()
    servers.declare(A)
    servers.declare(B)
    servers.allot([Want("w", "j", (endpoint,), 9) for endpoint in endpoints], {}, 0.0)
    return servers


class Asking:
    """``ask_servers`` with a clock that stands still between two sleeps, of which it keeps note."""

    def __init__(self, monkeypatch, servers, reader, *, turns):
        self.servers, self.reader, self.turns = servers, reader, turns
        self.next_servers = None
        self.seen, self.slept, self.now_s = [], [], 1000.0
        monkeypatch.setattr(asking, "GaugeReader", lambda: reader)
        clock = SimpleNamespace(monotonic=lambda: self.now_s)
        loop = SimpleNamespace(sleep=self._sleep, gather=asyncio.gather)
        monkeypatch.setattr(asking, "time", clock)
        monkeypatch.setattr(asking, "asyncio", loop)

    async def _sleep(self, seconds):
        self.servers = self.next_servers or self.servers
        self.slept.append(seconds)
        self.now_s += seconds
        if len(self.slept) == self.turns:
            raise asyncio.CancelledError

    def run(self):
        """Ask for so many turns, then be cancelled."""

        def observe(endpoint, gauges, now_s):
            self.seen.append((endpoint, gauges.running, now_s))

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(ask_servers(lambda: self.servers, observe))


def test_servers_that_are_wanted_are_asked_and_heard(monkeypatch):
    """Again and again, as often as their limits want to know, with the time of the answer."""
    asker = Asking(monkeypatch, wanted(A), FakeReader(), turns=3)

    asker.run()

    assert asker.slept == [0.25] * 3
    assert asker.seen == [(A, 1, 1000.0 + 0.25 * turn) for turn in range(3)]


def test_servers_that_nobody_wants_are_left_alone(monkeypatch):
    """It is looked again soon whether one has come into use."""
    asker = Asking(monkeypatch, wanted(), FakeReader(), turns=2)

    asker.run()

    assert asker.reader.asked == []
    assert asker.slept == [0.25, 0.25]


def test_a_server_that_says_nothing_is_left_to_go_stale(monkeypatch):
    """It is asked again, and others are heard."""
    asker = Asking(monkeypatch, wanted(A, B), FakeReader(**{A: None}), turns=2)

    asker.run()

    assert [endpoint for endpoint, *_ in asker.seen] == [B, B]
    assert asker.reader.asked.count(A) == 2


def test_servers_are_asked_together():
    """One that takes its time keeps nobody waiting: all are asked before any answer is in."""

    async def main():
        reader = FakeReader(**{A: "hangs", B: "hangs"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asking, "GaugeReader", lambda: reader)
            work = asyncio.ensure_future(ask_servers(lambda: wanted(A, B), lambda *said: None))
            for _ in range(8):
                await asyncio.sleep(0)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
        return reader

    reader = asyncio.run(main())

    assert sorted(reader.asked) == [A, B]
    assert reader.is_closed


def test_servers_may_be_replaced_meanwhile(monkeypatch):
    """A dispatcher that begins anew has others; they are asked from then on."""
    asker = Asking(monkeypatch, wanted(A), FakeReader(), turns=2)
    asker.next_servers = wanted(B)

    asker.run()

    assert asker.reader.asked == [A, B]


def test_connections_are_closed_when_nobody_asks_any_more(monkeypatch):
    """Also when it is cancelled."""
    asker = Asking(monkeypatch, wanted(A), FakeReader(), turns=1)

    asker.run()

    assert asker.reader.is_closed


def test_without_a_client_it_says_what_to_install(monkeypatch):
    """Once, at the beginning."""

    def missing():
        raise MissingDependencyError("install sage-dask[http]")

    monkeypatch.setattr(asking, "GaugeReader", missing)

    with pytest.raises(MissingDependencyError, match="http"):
        asyncio.run(ask_servers(Servers, lambda *said: None))
