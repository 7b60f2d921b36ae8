"""What a scheduler tells jobs of gates and servers."""

from __future__ import annotations

import msgpack

from sage_dask.scheduling.gate import GateStatistics
from sage_dask.scheduling.servers import Servers
from sage_dask.scheduling.statistics import Load

URLS = "http://gpu-0:8000/v1", "http://gpu-1:8000/v1"


def load():
    """Return the load of two gates and two servers."""
    servers = Servers()
    for url in URLS:
        servers.declare(url)
    gates = {"llm": GateStatistics(4, 2.5), "free": GateStatistics(None, 0.0)}
    return Load(gates, servers.statistics(), dict.fromkeys(URLS, 12.0))


def test_a_load_is_the_same_after_the_wire():
    """As plain values that any message may hold."""
    told = msgpack.unpackb(msgpack.packb(load().as_plain()))

    assert Load.from_plain(told) == load()


def test_a_job_hears_of_its_own_gates_and_servers():
    """Of those alone, and of none that nobody knows."""
    own = load().of({"llm", "unknown"}, {URLS[1]})

    assert (list(own.gates), list(own.servers), list(own.wanted)) == (
        ["llm"],
        [URLS[1]],
        [URLS[1]],
    )
