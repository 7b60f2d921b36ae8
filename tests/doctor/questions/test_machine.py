"""Looking at this machine: what comes back is what the system says."""

from __future__ import annotations

import os
import socket

import psutil

from sage_dask.doctor.questions.machine import (
    look_at_machine,
    look_at_packages,
    look_at_ports,
    package_versions,
    usable_memory,
)
from sage_dask.doctor.versions import COMPARED
from sage_dask.version import __version__


def test_the_packages_of_this_process():
    """Each that is compared has a release, sage_dask that of the code that runs."""
    versions = package_versions()

    assert set(versions) == set(COMPARED)
    assert all(versions.values())
    assert versions["sage-dask"] == __version__
    assert look_at_packages().versions == versions


def test_the_machine_of_this_process():
    """What may be used is no more than there is."""
    facts = look_at_machine()

    assert 1 <= facts.usable_cores <= facts.cores == os.cpu_count()
    assert 0 < facts.usable_bytes <= facts.memory_bytes == psutil.virtual_memory().total
    assert usable_memory() == facts.usable_bytes
    assert facts.open_files > 0


def test_a_port_is_taken_while_somebody_listens():
    """By this process, here; another that was just given back is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with socket.create_server(("127.0.0.1", 0)) as free:
            free_port = free.getsockname()[1]
        port = taken.getsockname()[1]

        mine, nobody = look_at_ports([port, free_port])

    assert (mine.port, mine.host) == (port, "127.0.0.1")
    assert f"(process {os.getpid()})" in mine.owner
    assert nobody.host == ""
