"""All checks that apply, made at the same time.

A check that can not be made, or takes too long, says so in a line of its own and
keeps no other from its answer.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue

from sage_dask import aio
from sage_dask.doctor.disk import folder_findings, run_folder_findings
from sage_dask.doctor.finding import Finding, ok, refused, unchecked
from sage_dask.doctor.machine import DEFAULT_PORTS, machine_findings, port_findings
from sage_dask.doctor.questions.folder import look_at_folder, look_at_run_folder
from sage_dask.doctor.questions.machine import (
    look_at_machine,
    look_at_packages,
    look_at_ports,
    package_versions,
)
from sage_dask.doctor.questions.server import ask_server
from sage_dask.doctor.servers import ServerAnswer, ServerQuestion, server_findings
from sage_dask.doctor.versions import installed_findings
from sage_dask.doctor.workers import stage_findings
from sage_dask.endpoint.secret import KeySource
from sage_dask.errors import PlanError, SageError, counted
from sage_dask.pipeline import Pipeline
from sage_dask.plan import Plan
from sage_dask.stage import Stage

# A disk that hangs never answers; the questions to a cluster have limits of their own, and
# this one is beyond them.
_LIMIT_S = 10.0
_CLUSTER_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be examined beside this machine."""

    scheduler: str | None = None
    """Address of a cluster's scheduler."""
    endpoints: Sequence[str] = ()
    """Base URLs of model servers, beside those that the pipeline asks."""
    pipeline: Pipeline | None = None
    plan: Callable[[], Plan] | None = None
    """Plans that pipeline as a run without a cluster would."""
    gates: Mapping[str, float] = field(default_factory=dict)
    """Limits that a run of it would set."""
    run_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One check, and how long it may take."""

    name: str
    make: Callable[[], Iterable[Finding]]
    limit_s: float = _LIMIT_S


def examine(subject: Subject) -> list[Finding]:
    """Return what all checks that apply have found."""
    return run_checks(list(_checks(subject)))


def run_checks(checks: Sequence[Check]) -> list[Finding]:
    """Make checks at the same time, and return their findings in the order of the checks."""
    started_s = time.monotonic()
    return [
        finding
        for check, answer in [(check, _begun(check)) for check in checks]
        for finding in _waited(check, answer, started_s + check.limit_s - time.monotonic())
    ]


def _begun(check: Check) -> SimpleQueue[list[Finding]]:
    """Start a check, and return where its findings will be."""
    answer: SimpleQueue[list[Finding]] = SimpleQueue()

    def make() -> None:
        try:
            answer.put(list(check.make()))
        except SageError as error:
            answer.put([refused(check.name, str(error))])
        except Exception as error:
            answer.put([unchecked(check.name, f"{type(error).__name__}: {error}")])

    # A daemon: one that waits for a dead disk for ever must not keep the command from its end.
    threading.Thread(target=make, name=f"check {check.name}", daemon=True).start()
    return answer


def _waited(check: Check, answer: SimpleQueue[list[Finding]], left_s: float) -> list[Finding]:
    try:
        return answer.get(timeout=max(0.0, left_s))
    except Empty:
        return [unchecked(check.name, f"no answer within {check.limit_s:g} s")]


def _checks(subject: Subject) -> Iterator[Check]:
    """Yield the checks that apply, in the order in which a person would read them."""
    yield Check("versions", lambda: installed_findings(look_at_packages()))
    yield Check("machine", lambda: machine_findings(look_at_machine()))
    if subject.scheduler is None:
        yield Check("ports", lambda: port_findings(look_at_ports(DEFAULT_PORTS)))
    yield Check("temporary folder", _temporary_folder)
    if (run_dir := subject.run_dir) is not None:
        yield Check("run folder", lambda: run_folder_findings(look_at_run_folder(run_dir)))
    if (plan := subject.plan) is not None:
        yield Check("pipeline", lambda: _planned(plan()))
    questions = server_questions(subject)
    if (scheduler := subject.scheduler) is not None:
        yield Check(
            "scheduler", lambda: _cluster(scheduler, subject, questions), limit_s=_CLUSTER_LIMIT_S
        )
    elif questions:
        yield Check("servers", lambda: _servers(questions, _asked_here(questions)()))


def _temporary_folder() -> Iterator[Finding]:
    return folder_findings("temporary folder", look_at_folder(Path(tempfile.gettempdir())))


def _planned(plan: Plan) -> Iterator[Finding]:
    yield ok("pipeline", f"{plan.pipeline}: can be run, in {counted(len(plan.stages), 'task')}")


def server_questions(subject: Subject) -> list[ServerQuestion]:
    """Return each model server to ask once per key, with all models that stages ask it for."""
    found: dict[tuple[str, KeySource | None], list[str]] = {}
    for endpoint in subject.endpoints:
        found.setdefault((endpoint, None), [])
    for stage in () if subject.pipeline is None else subject.pipeline.stages:
        # What is wrong with a key's name is told with the plan.
        with suppress(PlanError):
            for endpoint in stage.operator.endpoints:
                models = found.setdefault((endpoint, _key(stage)), [])
                models += [model] if (model := _model(stage)) and model not in models else []
    return [
        ServerQuestion(endpoint, tuple(models), key)
        for (endpoint, key), models in found.items()
        # A stage's question says all that one without a key would.
        if models or key or not any(other != key for at, other in found if at == endpoint)
    ]


def _model(stage: Stage) -> str | None:
    return getattr(stage.operator, "model", None)


def _key(stage: Stage) -> KeySource | None:
    env = getattr(stage.operator, "api_key_env", None)
    file = getattr(stage.operator, "api_key_file", None)
    return None if env is None and file is None else KeySource(env=env, file=file)


def _asked_here(questions: Sequence[ServerQuestion]) -> Callable[[], list[ServerAnswer]]:
    """Begin to ask servers from this process, and return what waits for their answers."""

    async def ask() -> list[ServerAnswer]:
        return await asyncio.gather(*map(ask_server, questions))

    return aio.submit(ask()).result


def _servers(
    questions: Sequence[ServerQuestion], answers: Sequence[ServerAnswer]
) -> Iterator[Finding]:
    for question, answer in zip(questions, answers, strict=True):
        yield from server_findings(question, answer)


def _cluster(
    scheduler: str, subject: Subject, questions: Sequence[ServerQuestion]
) -> Iterator[Finding]:
    # Dask takes half a second to import, meanwhile servers are asked.
    answers = _asked_here(questions)
    from sage_dask.doctor.cluster import server_findings_on, told_findings
    from sage_dask.doctor.questions.cluster import ask_cluster, told_gates

    try:
        answer = ask_cluster(scheduler, questions)
    except SageError as error:
        yield refused("scheduler", str(error))
        yield from _servers(questions, answers())
        return
    yield from told_findings(answer, package_versions())
    if (pipeline := subject.pipeline) is not None:
        supplies = [worker.resources for worker in answer.workers]
        gates = {**told_gates(answer), **subject.gates}
        yield from stage_findings(pipeline.name, pipeline.stages, supplies, gates)
    yield from server_findings_on(answer, questions, answers())
