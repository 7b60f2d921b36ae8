"""What a cluster's answers come to, in the order in which a person would look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sage_dask.cluster.local import SETTINGS
from sage_dask.doctor.clocks import clock_findings
from sage_dask.doctor.disk import spill_findings
from sage_dask.doctor.finding import Finding, fail, named, ok
from sage_dask.doctor.machine import open_file_findings
from sage_dask.doctor.questions.cluster import ClusterAnswer
from sage_dask.doctor.questions.host import HostAnswer
from sage_dask.doctor.questions.scheduler import SchedulerAnswer
from sage_dask.doctor.scheduler import dashboard_finding, scheduler_findings
from sage_dask.doctor.servers import (
    ServerAnswer,
    ServerQuestion,
    scheduler_metrics,
    server_findings,
)
from sage_dask.doctor.settings import setting_findings
from sage_dask.doctor.versions import Versions, cluster_findings
from sage_dask.doctor.workers import worker_findings
from sage_dask.version import __version__


def told_findings(answer: ClusterAnswer, here: Versions) -> Iterator[Finding]:
    """Yield everything that a cluster told but for model servers and stages.

    Args:
        answer: What it told.
        here: This process's packages.
    """
    yield ok("scheduler", f"{answer.address} answers; connected in {answer.connect_ms:.0f} ms")
    hosts = told_hosts(answer)
    scheduler = answer.scheduler
    if isinstance(scheduler, SchedulerAnswer):
        yield from scheduler_findings(scheduler.facts)
        if answer.dashboard_url:
            yield dashboard_finding(scheduler.facts, answer.dashboard_url, answer.dashboard_fault)
        yield from setting_findings(
            scheduler.facts.settings,
            SETTINGS,
            has_dispatcher=scheduler.facts.dispatching is not None,
        )
    else:
        yield _mute("scheduler", answer.address, scheduler)
    memory = {node: host.memory_bytes for node, host in hosts.items()}
    yield from worker_findings(answer.workers, answer.address, memory)
    silent = {worker.node for worker in answer.workers if worker.is_silent}
    yield from _mute_hosts(
        {node: each for node, each in answer.hosts.items() if node not in silent}
    )
    told = scheduler.versions if isinstance(scheduler, SchedulerAnswer) else None
    yield from cluster_findings(here, told, dict(_versions(answer)))
    yield from _machines(hosts)
    yield from clock_findings(answer.offsets)


def server_findings_on(
    answer: ClusterAnswer, questions: Sequence[ServerQuestion], here: Sequence[ServerAnswer]
) -> Iterator[Finding]:
    """Yield how model servers are from here, from the scheduler and from each node.

    Args:
        answer: What the cluster told.
        questions: What was asked.
        here: What was answered here, in that order.
    """
    hosts = told_hosts(answer)
    scheduler = answer.scheduler
    for number, (question, mine) in enumerate(zip(questions, here, strict=True)):
        there = [(node, host.servers[number]) for node, host in hosts.items()]
        yield from server_findings(question, mine, there, key_is_read_here=False)
        if isinstance(scheduler, SchedulerAnswer) and scheduler.facts.dispatching is not None:
            yield from scheduler_metrics(question, mine.gauges, scheduler.gauges[number])


def told_hosts(answer: ClusterAnswer) -> Mapping[str, HostAnswer]:
    """Return what those nodes told that told anything."""
    return {node: host for node, host in answer.hosts.items() if isinstance(host, HostAnswer)}


def _mute(what: str, where: str, error: Exception) -> Finding:
    """Return why a scheduler or a worker did not say how it is."""
    reason = str(error) or type(error).__name__
    # The import failed over there, and Dask tells of it in a text.
    if "No module named" in reason:
        return fail(
            what,
            f"{where}: has no sage_dask, or another release ({reason})",
            f"operators are found there by name: install 'sage-dask=={__version__}' there",
        )
    return fail(
        what,
        f"{where}: does not say how it is ({reason})",
        "look whether the process hangs or has gone, and at its log",
    )


def _mute_hosts(hosts: Mapping[str, HostAnswer | Exception]) -> Iterator[Finding]:
    """Yield the nodes that did not say how they are; those with one reason share a line."""
    alike: dict[str, list[str]] = {}
    errors = {node: each for node, each in hosts.items() if isinstance(each, Exception)}
    for node, error in errors.items():
        alike.setdefault(repr(error), []).append(node)
    for nodes in alike.values():
        yield _mute("workers", named(nodes), errors[nodes[0]])


def _versions(answer: ClusterAnswer) -> Iterator[tuple[str, Versions]]:
    """Yield what each worker told as it registered, and its node since, by the worker's name."""
    hosts = told_hosts(answer)
    for worker in answer.workers:
        told = dict(worker.versions)
        if worker.node in hosts:
            told |= hosts[worker.node].versions
        if told:
            yield worker.name, told


def _machines(hosts: Mapping[str, HostAnswer]) -> Iterator[Finding]:
    yield from spill_findings({node: host.folder for node, host in hosts.items()})
    alike: dict[tuple[int, int], list[str]] = {}
    for node, host in hosts.items():
        alike.setdefault((host.open_files, host.most_open_files), []).append(node)
    for (limit, most), nodes in alike.items():
        for finding in open_file_findings("worker files", limit, most):
            yield replace(finding, value=f"{named(nodes)}: {finding.value}")
