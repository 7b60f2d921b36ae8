"""Nodes on this machine: their names, what they listen on, and how they start and end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from urllib.error import HTTPError

import dask
import psutil
import pytest
from distributed import default_client

from sage_dask.cluster import LocalNodes
from sage_dask.cluster.local import SETTINGS
from sage_dask.errors import PlanError
from sage_dask.scheduling.on_dask.configured import may_control

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def nodes():
    """Lend two nodes of two threads, with a dashboard."""
    with LocalNodes(2, threads=2, resources={"LLM": 4}, memory_limit="1GiB") as nodes:
        yield nodes


def workers(nodes):
    """Return what the scheduler knows of each node."""
    return nodes.client.scheduler_info(n_workers=-1)["workers"].values()


def listening():
    """Return the hosts on which this process and those it started accept connections."""
    this = psutil.Process()
    return {
        connection.laddr.ip
        for process in [this, *this.children(recursive=True)]
        for connection in process.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


def is_ignored(signal_number):
    """Return whether this process ignores a signal."""
    return signal.getsignal(signal_number) == signal.SIG_IGN


def test_nodes_have_names_threads_and_resources(nodes):
    """Nodes are numbered from zero, and each supplies what was asked for."""
    assert nodes.names == ["node-0", "node-1"]
    assert sorted(worker["name"] for worker in workers(nodes)) == ["node-0", "node-1"]
    assert sorted(worker["node"] for worker in workers(nodes)) == ["node-0", "node-1"]
    assert [worker["nthreads"] for worker in workers(nodes)] == [2, 2]
    assert [worker["resources"] for worker in workers(nodes)] == [{"LLM": 4}] * 2
    assert [worker["memory_limit"] for worker in workers(nodes)] == [1 << 30] * 2
    assert repr(nodes) == "<LocalNodes 2 x 2 threads>"


def test_a_node_of_several_workers_shares_out_what_it_has():
    """Threads, resources and memory are those of the node; its workers share its name."""
    with LocalNodes(
        1, threads=4, workers_per_node=2, resources={"LLM": 2}, memory_limit="1GiB", dashboard=None
    ) as nodes:
        told = sorted(workers(nodes), key=lambda worker: worker["name"])

        assert repr(nodes) == "<LocalNodes 1 x 4 threads in 2 workers>"
    assert [worker["name"] for worker in told] == ["node-0/0", "node-0/1"]
    assert [worker["node"] for worker in told] == ["node-0"] * 2
    assert [worker["nthreads"] for worker in told] == [2, 2]
    assert [worker["resources"] for worker in told] == [{"LLM": 1}] * 2
    assert [worker["memory_limit"] for worker in told] == [1 << 29] * 2


def test_each_node_is_a_process_of_its_own(nodes):
    """Python code on two nodes runs at the same time."""
    pids = set(nodes.client.run(os.getpid).values())

    assert len(pids) == 2
    assert os.getpid() not in pids


def test_nothing_listens_beyond_this_machine(nodes):
    """Scheduler, nodes and dashboard are on loopback: who reaches them can run code."""
    assert nodes.dashboard_link.startswith("http://127.0.0.1:")
    assert nodes.pipelines_link == nodes.dashboard_link.replace("/status", "/pipelines")
    assert listening() == {"127.0.0.1"}


def test_the_dashboard_answers_at_its_link(nodes):
    """The link that is printed leads to a page."""
    with urllib.request.urlopen(nodes.dashboard_link, timeout=30) as page:
        assert page.status == 200


def test_ctrl_c_is_left_to_the_driver(nodes):
    """A terminal sends Ctrl-C to all processes; the nodes go on until the driver stops them."""
    ignoring = nodes.client.run(is_ignored, signal.SIGINT)
    pids = set(nodes.client.run(os.getpid).values())

    for pid in pids:
        os.kill(pid, signal.SIGINT)

    assert set(ignoring.values()) == {True}
    assert set(nodes.client.run(os.getpid).values()) == pids


def test_the_client_is_not_made_the_default(nodes):
    """A user's own ``dask.compute`` does not move to our nodes unasked."""
    with pytest.raises(ValueError, match="No client"):
        default_client()


def test_settings_hold_while_nodes_live_and_no_longer():
    """Restarted nodes read the settings again; the user's own come back afterwards."""
    name, at_node = "distributed.scheduler.worker-ttl", "distributed.worker.profile.interval"

    with dask.config.set({name: "7s"}):
        with LocalNodes(1, dashboard=None) as nodes:
            during = dask.config.get(name)
            in_node = nodes.client.run(dask.config.get, at_node)
        after = dask.config.get(name)

    assert (during, after) == (SETTINGS[name], "7s")
    assert list(in_node.values()) == [SETTINGS[at_node]]


def test_no_dashboard_is_no_link():
    """Without a dashboard there is no link, no page, and Dask's default port stays free."""
    with LocalNodes(1, dashboard=None) as nodes:
        link = nodes._cluster.dashboard_link

        assert nodes.dashboard_link is None
        assert nodes.pipelines_link is None
        assert ":8787/" not in link
        with pytest.raises(HTTPError, match="404"):
            urllib.request.urlopen(link, timeout=30)


def test_closed_nodes_leave_no_process():
    """Every process that was started is gone after close."""
    with LocalNodes(1, dashboard=None) as nodes:
        (pid,) = nodes.client.run(os.getpid).values()

    assert not psutil.pid_exists(pid)


def test_preloaded_modules_are_there_before_any_task(tmp_path, monkeypatch):
    """Nodes are forked from a process that has imported the modules: once, not once per node."""
    log = tmp_path / "log"
    (tmp_path / "heavy_for_a_test.py").write_text(
        f"import os\nwith open({str(log)!r}, 'a') as file:\n    file.write(f'{{os.getpid()}}\\n')\n"
    )
    program = """
import sys
from sage_dask.cluster import LocalNodes

def has_module():
    import sys
    return "heavy_for_a_test" in sys.modules

if __name__ == "__main__":
    with LocalNodes(2, preload=["heavy_for_a_test"], dashboard=None) as nodes:
        print(sorted(nodes.client.run(has_module).values()))
"""
    script = tmp_path / "program.py"
    script.write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    # In a process of its own: a process keeps the list of modules of its first such nodes.
    told = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=100, check=True
    )

    assert told.stdout.strip() == "[True, True]"
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (-1, 1, 1), (1, 1, 0)])
def test_nodes_that_could_run_nothing_are_refused(sizes):
    """No node, thread or worker is told before anything is started, with what to do instead."""
    num_nodes, threads, workers_per_node = sizes

    with pytest.raises(PlanError, match=r"needs one node, one thread and one worker at least; lea"):
        LocalNodes(num_nodes, threads=threads, workers_per_node=workers_per_node)


def test_a_node_that_can_not_be_shared_out_is_refused():
    """Three threads over two workers are told before anything is started."""
    with pytest.raises(PlanError, match=r"threads of 3 per node can not be split evenly"):
        LocalNodes(1, threads=3, workers_per_node=2)


NO_GUARD = """
from sage_dask.cluster import LocalNodes

with LocalNodes(1):
    print("started")
"""


def test_a_script_without_its_guard_is_told_so(tmp_path):
    """A script that each node would run again ends soon, with the line that is missing."""
    script = tmp_path / "script.py"
    script.write_text(NO_GUARD)

    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=50)

    assert ran.returncode == 1
    assert ran.stdout == ""
    first, *_, last = ran.stderr.splitlines()
    assert first.startswith("error: every node imports the main script")
    assert "if __name__ == '__main__':" in last


def test_placement_is_changed_by_name(nodes):
    """Policy, its parameters and gates are set on the nodes themselves, while they are up."""
    nodes.set_policy("pack", target_wait_s=1.0)
    nodes.set_gate("llm", 3)

    statistics = nodes.scheduling.statistics()

    assert statistics.policy == "pack"
    assert statistics.gates["llm"].limit == 3
    assert set(statistics.nodes) == {"node-0", "node-1"}


@pytest.mark.parametrize("allow_control", [True, False])
def test_the_dashboard_may_change_something_only_where_that_is_allowed(allow_control):
    """For as long as the nodes live."""
    with LocalNodes(1, dashboard=None, allow_control=allow_control):
        within = may_control()

    assert (within, may_control()) == (allow_control, False)
