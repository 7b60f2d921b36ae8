"""Whether a scheduler answers: known within seconds, whatever is there in its place."""

from __future__ import annotations

import asyncio
import socket

import pytest
from distributed import LocalCluster

from sage_dask import reach as module
from sage_dask.errors import RunError
from sage_dask.reach import reach


def test_a_port_where_nobody_listens_refuses_at_once():
    """The operating system says so, and the message how to mend it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(RunError, match=rf"at 'tcp://127\.0\.0\.1:{port}' \(Connection refused\)"):
        reach(f"tcp://127.0.0.1:{port}")


def test_one_that_accepts_and_says_nothing_is_told(monkeypatch):
    """A dashboard's port, or a scheduler that hangs: Dask's client would wait without end."""
    monkeypatch.setattr(module, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"

        with pytest.raises(RunError, match=r"says nothing for 0\.2 s\); .*not its dashboard's"):
            reach(address)


def test_a_malformed_address_is_told():
    """Before anything is asked."""
    with pytest.raises(RunError, match="no Dask scheduler answers at 'nonsense://1'"):
        reach("nonsense://1")


def test_a_scheduler_answers_also_within_an_event_loop():
    """As in a notebook, where one runs already."""

    async def ask(address):
        await asyncio.to_thread(lambda: None)
        reach(address)

    with LocalCluster(
        n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        reach(cluster.scheduler_address)
        asyncio.run(ask(cluster.scheduler_address))
