"""What a cluster's answers come to, those that are missing included."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage_dask.doctor.cluster import server_findings_on, told_findings
from sage_dask.doctor.disk import FolderFacts
from sage_dask.doctor.finding import Mark
from sage_dask.doctor.questions.cluster import ClusterAnswer, told_gates
from sage_dask.doctor.questions.host import HostAnswer
from sage_dask.doctor.questions.scheduler import Registered, SchedulerAnswer
from sage_dask.doctor.scheduler import Dispatching, SchedulerFacts
from sage_dask.doctor.servers import ServerAnswer, ServerQuestion
from sage_dask.doctor.settings import SchedulerSettings
from sage_dask.doctor.workers import WorkerFacts
from sage_dask.endpoint.gauges import Gauges

GIB = 2**30
HERE = {"python": "3.11.7", "dask": "2026.8.0", "sage-dask": "0.1.0"}
MISSING = Exception("ModuleNotFoundError(\"No module named 'sage_dask.doctor'\")")
WELL = ServerAnswer(("qwen",), gauges=Gauges(0, 0))
HOST = HostAnswer(
    HERE, FolderFacts("/x", "ext4", 50 * GIB, 90 * GIB), 8 * GIB, 20_000, 20_000, (WELL,)
)
WORKER = WorkerFacts("a-0", "a", 2, GIB, silent_s=0.1, versions={"dask": "2026.8.0"})
SCHEDULER = SchedulerAnswer(
    SchedulerFacts(
        ("tcp://127.0.0.1:8786",),
        ("127.0.0.1",),
        8787,
        Dispatching("spread", False, {"llm": 8}, 0),
        SchedulerSettings(60, 0, 3600, None, True),
    ),
    HERE,
    (Gauges(0, 0),),
    {"tcp://a:1": Registered(0.1, {})},
)
ANSWER = ClusterAnswer(
    address="tcp://127.0.0.1:8786",
    connect_ms=3,
    scheduler=SCHEDULER,
    workers=[WORKER, replace(WORKER, name="b-0", node="b")],
    hosts={"a": HOST, "b": HOST},
    offsets={},
    dashboard_url="http://127.0.0.1:8787/status",
)


def troubles(answer):
    """Return what is not well; each says what to do."""
    found = [finding for finding in told_findings(answer, HERE) if finding.mark is not Mark.OK]
    assert all(finding.advice for finding in found)
    return found


def test_a_cluster_that_is_well():
    """Each subject has a line, and nodes that are alike share theirs."""
    findings = list(told_findings(ANSWER, HERE))

    assert {finding.mark for finding in findings} == {Mark.OK}
    assert [finding.what for finding in findings] == [
        *("scheduler", "scheduler", "dispatcher", "dashboard", "settings", "workers"),
        *("versions", "worker disk", "worker files"),
    ]
    assert findings[-1].value == "a, b: 20,000 at once"


def test_nodes_without_the_package_share_a_line():
    """Dask tells what failed there in a text; the mend is to install."""
    (found,) = troubles(replace(ANSWER, hosts={"a": MISSING, "b": MISSING}))

    assert found.mark is Mark.FAIL
    assert found.value.startswith("a, b: has no sage_dask, or another release")
    assert "install 'sage-dask==" in found.advice


def test_a_node_that_gives_no_answer_is_named():
    """The other one is examined all the same."""
    (found,) = troubles(replace(ANSWER, hosts={"a": HOST, "b": TimeoutError("no answer")}))

    assert found.value == "b: does not say how it is (no answer)"


def test_a_worker_that_hangs_is_told_once():
    """That it was not heard of for long says more than that it did not answer."""
    silent = replace(WORKER, name="b-0", node="b", silent_s=45.0)
    hosts = {"a": HOST, "b": TimeoutError("no answer")}

    (found,) = troubles(replace(ANSWER, workers=[WORKER, silent], hosts=hosts))

    assert found.value == "b-0: not heard of for up to 45 s"


def test_a_scheduler_without_the_package_is_told_and_workers_all_the_same():
    """Dask's own answers are enough to count them."""
    answer = replace(ANSWER, scheduler=MISSING)

    (found,) = troubles(answer)

    assert (found.what, found.mark) == ("scheduler", Mark.FAIL)
    assert any(finding.what == "workers" for finding in told_findings(answer, HERE))
    assert told_gates(answer) == {}
    assert told_gates(ANSWER) == {"llm": 8}


@pytest.mark.parametrize("hosts", [{"a": HOST}, {"a": HOST, "b": MISSING}])
def test_releases_of_workers_that_can_not_be_asked_are_known(hosts):
    """They told Dask as they registered, also where sage_dask is missing."""
    old = replace(WORKER, name="b-0", node="b", versions={"dask": "2026.7.0"})

    found = troubles(replace(ANSWER, workers=[WORKER, old], hosts=hosts))

    assert found[-1].value == "dask 2026.7.0 on b-0, 2026.8.0 here"


def test_servers_are_told_as_seen_from_everywhere():
    """From here, from nodes, and what only the scheduler can not read."""
    deaf = replace(ANSWER, scheduler=replace(SCHEDULER, gauges=(None,)))
    question = ServerQuestion("http://gpu-0:8000/v1", ("qwen",))

    well = list(server_findings_on(ANSWER, [question], [WELL]))
    *_, found = server_findings_on(deaf, [question], [WELL])

    assert [finding.mark for finding in well] == [Mark.OK] * 3
    assert "not by the scheduler" in found.value
