"""Whether model servers answer, have the models that stages want, and tell their load."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sage_dask.doctor.finding import Finding, fail, named, note, ok, warn
from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.secret import KeySource
from sage_dask.errors import did_you_mean

_UNAUTHORIZED = (401, 403)


@dataclass(frozen=True, slots=True)
class ServerQuestion:
    """A server to ask, for whom; it travels to those that ask, and the key does not."""

    endpoint: str
    models: tuple[str, ...] = ()
    """Names that stages ask for."""
    key: KeySource | None = None


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What one machine was told by a server."""

    models: tuple[str, ...] = ()
    fault: str = ""
    """Why there are no models."""
    status: int | None = None
    """Of the answer that was no list of models, where there was one."""
    key_fault: str = ""
    """Why the key can not be used there; no models were asked for then."""
    latency_ms: float = 0.0
    """Of both questions, for health and for models, together."""
    gauges: Gauges | None = None


def server_findings(
    question: ServerQuestion,
    here: ServerAnswer,
    workers: Sequence[tuple[str, ServerAnswer]] = (),
    *,
    key_is_read_here: bool = True,
) -> Iterator[Finding]:
    """Yield how a server is from this machine, and from workers' machines.

    Args:
        question: What was asked.
        here: What it answered here.
        workers: What it answered on each node, by the node's name.
        key_is_read_here: Whether requests would be sent from here, and not by workers.
    """
    what = f"server {question.endpoint}"
    if here.key_fault and not key_is_read_here:
        yield note(
            what,
            f"not asked from here, where {_place(question)} holds no key",
            "workers send the requests, and what they say is below; export it here to ask, too",
        )
    else:
        yield from _seen(what, question, here, "here")
    yield from _metrics(what, here)
    for answer, nodes in _alike(workers):
        place = f"on {named(nodes)}"
        yield from _seen(what, question, answer, place)


def scheduler_metrics(
    question: ServerQuestion, here: Gauges | None, there: Gauges | None
) -> Iterator[Finding]:
    """Yield whether the scheduler, which follows a server's load, can read it as we can."""
    if here is not None and there is None:
        yield warn(
            f"server {question.endpoint}",
            "its /metrics are read here, and not by the scheduler, which follows them",
            "limits follow refused requests alone: let the scheduler's machine reach the server, "
            "and install 'sage-dask[http]' there",
        )


def _alike(
    workers: Sequence[tuple[str, ServerAnswer]],
) -> Sequence[tuple[ServerAnswer, list[str]]]:
    """Return nodes that were told the same together, with the answer of the slowest."""
    groups: dict[object, list[tuple[str, ServerAnswer]]] = {}
    for node, answer in workers:
        told = (answer.models, answer.fault, answer.status, answer.key_fault)
        groups.setdefault(told, []).append((node, answer))
    return [
        (max((each for _, each in group), key=lambda each: each.latency_ms), [n for n, _ in group])
        for group in groups.values()
    ]


def _seen(
    what: str, question: ServerQuestion, answer: ServerAnswer, place: str
) -> Iterator[Finding]:
    if answer.key_fault:
        value, _, mend = answer.key_fault.partition("; ")
        yield fail(what, f"{place}: {value}", mend)
        return
    if answer.fault:
        yield _unseen(what, question, answer, place)
        return
    missing = [model for model in question.models if model not in answer.models]
    for model in missing:
        yield fail(
            what,
            f"{place}: has no model {model!r}; it has {named(map(repr, answer.models)) or 'none'}",
            f"give the stage model=... as the server calls it, or start it with that model"
            f"{did_you_mean(model, answer.models)}",
        )
    if not missing:
        models = named(answer.models) or "no models"
        key = "" if question.key is None else f", {_place(question)} holds a key"
        yield ok(what, f"{place}: answers in {answer.latency_ms:.0f} ms, has {models}{key}")


def _unseen(what: str, question: ServerQuestion, answer: ServerAnswer, place: str) -> Finding:
    if answer.status in _UNAUTHORIZED:
        if question.key is None:
            return fail(
                what,
                f"{place}: wants a key ({answer.fault})",
                "give the stage api_key_env=..., and ask with --pipeline",
            )
        return fail(
            what,
            f"{place}: refuses the key ({answer.fault})",
            f"look at what {_place(question)} holds {place}",
        )
    return fail(
        what,
        f"{place}: {answer.fault}",
        "start it ('sage-dask serve' does), give its address as seen from there, or open the "
        "network between them",
    )


def _metrics(what: str, answer: ServerAnswer) -> Iterator[Finding]:
    gauges = answer.gauges
    if gauges is None:
        if answer.fault or answer.key_fault:
            return  # Of a server that was not reached there is nothing to say.
        yield note(
            what,
            "tells no load in /metrics that is understood",
            "limits follow refused requests alone; set one where that is too coarse: "
            "limit=64 of the stage, or --gate URL=64",
        )
        return
    usage = "" if gauges.kv_usage is None else f", KV cache {gauges.kv_usage:.0%} full"
    load = f"{gauges.running:g} requests running, {gauges.waiting:g} waiting{usage}"
    if gauges.waiting > max(gauges.running, 1):
        yield warn(
            what,
            f"load: {load}",
            "its queue is longer than its batch: others ask it, too, and requests of a run will "
            "wait behind theirs",
        )
    else:
        yield ok(what, f"load: {load}")


def _place(question: ServerQuestion) -> str:
    """Return where the key of a question is read: a variable's name, or a file's path."""
    return "" if question.key is None else question.key.env or question.key.file or ""
