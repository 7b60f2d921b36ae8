"""What will run: stages grouped into tasks, and how many records travel together.

A plan is data.  It is a directed acyclic graph of stage plans in its types, so
that branches can come without a new shape; today's planner writes chains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass

from sage_dask.endpoint.limit import RequestLimit
from sage_dask.errors import PlanError, did_you_mean
from sage_dask.stage import FieldSet, Operator, Sink, Source, Stage

# The name under which the source's fields stand in a plan, and its failures in a report.
READ = "read"

# The stage that records fail in which have no form in the journal or in the output.
WRITE = "write"


@dataclass(frozen=True, slots=True)
class StagePlan:
    """Neighbouring stages that run as one task."""

    stages: tuple[Stage, ...]
    inputs: tuple[str, ...] = ()
    """Names of the stage plans whose output this one takes; none reads the source."""

    @property
    def name(self) -> str:
        """Stage names joined by ``+``: what keys, the dashboard and the report show."""
        return "+".join(stage.name for stage in self.stages)

    @property
    def resources(self) -> Mapping[str, float]:
        """Worker resources that one task holds while it runs."""
        return self.stages[0].resources

    @property
    def gates(self) -> Mapping[str, int]:
        """Slots of cluster-wide gates that one task holds while it runs."""
        return self.stages[0].gates

    @property
    def is_async(self) -> bool:
        """Whether its stages wait for others, so that it needs no thread of its own."""
        return all(stage.operator.is_async for stage in self.stages)

    @property
    def is_remembered(self) -> bool:
        """Whether a run with a journal keeps what this task makes before the next one begins."""
        return self.stages[-1].is_remembered

    @property
    def endpoints(self) -> Mapping[str, RequestLimit]:
        """Model servers that its stages send requests to, and how many these take at once."""
        operator = self.stages[0].operator
        return dict.fromkeys(operator.endpoints, operator.request_limit)

    @property
    def priority(self) -> int:
        """Higher runs first among tasks that are ready."""
        return self.stages[0].priority


# A quarter of the published cost per item went into hops; a task of 0.2 s spends under 1 % of
# its time in the scheduler (0.5 to 0.6 ms per task) and still lets priorities act quickly.
TARGET_TASK_S = 0.2


@dataclass(frozen=True, slots=True)
class Batching:
    """How many records travel together."""

    target_task_s: float = TARGET_TASK_S
    """Busy time that the longest task of a batch is steered to."""
    first: int = 4
    """Records in the first batches, before anything is measured."""
    largest: int = 4096
    largest_bytes: int = 8 << 20
    """Most pickled bytes that travel together, once the size of a record is known."""
    fixed: int | None = None
    """A size chosen by the user, which nothing adapts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked pipeline, ready for any runner."""

    pipeline: str
    source: Source
    stages: tuple[StagePlan, ...]
    """In an order in which every stage plan follows its inputs."""
    sink: Sink
    batching: Batching = field(default_factory=Batching)
    fields: Mapping[str, FieldSet] = field(default_factory=dict)
    """What records carry after the source (``"read"``) and after each stage."""
    notes: tuple[str, ...] = ()
    """Why the plan is as it is, one sentence per decision."""

    def explain(self, form: str = "text") -> str:
        """Return the plan as ``"text"`` for people or as ``"mermaid"`` for documents."""
        if form == "text":
            return "\n".join(_text(self))
        if form == "mermaid":
            return "\n".join(_mermaid(self))
        raise PlanError(
            f"explain form {form!r} is neither 'text' nor 'mermaid'"
            f"{did_you_mean(form, ['text', 'mermaid'])}"
        )


_VALUE_LIMIT = 40


def _text(plan: Plan) -> Iterator[str]:
    yield f"pipeline {plan.pipeline}"
    yield f"  read     {plan.source.name}   {_fields(plan.fields[READ])}"
    for task in plan.stages:
        yield f"  task     {task.name}{_needs(task)}"
        width = max(len(stage.name) for stage in task.stages)
        for stage in task.stages:
            yield f"             {stage.name:<{width}}  {describe(stage.operator)}{_options(stage)}"
            yield f"             {'':<{width}}  {_flow(stage.operator)}"
    yield f"  write    {plan.sink.name}   {_fields(plan.fields[plan.stages[-1].stages[-1].name])}"
    yield f"  batches  {_batching(plan.batching)}"
    for note in plan.notes:
        yield f"  because  {note}"


def _mermaid(plan: Plan) -> Iterator[str]:
    yield "flowchart LR"
    yield f'    read[("{_quoted(plan.source.name)}")]'
    for task in plan.stages:
        yield f'    subgraph {_node(task.name)}["{_quoted(task.name + _needs(task))}"]'
        yield "        direction LR"
        for stage in task.stages:
            label = f"{stage.name}<br/>{_quoted(type(stage.operator).__name__)}"
            yield f'        {_node(stage.name)}_["{label}"]'
        yield "    end"
    yield f'    write[("{_quoted(plan.sink.name)}")]'
    names = [f"{_node(stage.name)}_" for task in plan.stages for stage in task.stages]
    yield "    " + " --> ".join(["read", *names, "write"])


def describe(operator: Operator) -> str:
    """Return an operator as it would be written, without what was left at its default."""
    if not is_dataclass(operator):
        return type(operator).__name__
    shown = []
    for parameter in fields(operator):
        value = getattr(operator, parameter.name)
        if parameter.init and parameter.repr and value != _default(parameter):
            shown.append(f"{parameter.name}={_value(value)}")
    return f"{type(operator).__name__}({', '.join(shown)})"


def _default(parameter: Field[object]) -> object:
    if parameter.default_factory is not MISSING:
        return parameter.default_factory()
    return parameter.default


def _value(value: object) -> str:
    text = getattr(value, "__qualname__", None) or repr(value)
    return text if len(text) <= _VALUE_LIMIT else text[: _VALUE_LIMIT - 3] + "..."


def _flow(operator: Operator) -> str:
    reads = ", ".join(operator.reads) or "anything"
    writes = "anything" if operator.writes is None else ", ".join(operator.writes) or "nothing new"
    return f"reads {reads}; writes {writes}"


def _options(stage: Stage) -> str:
    options = []
    if stage.batch_size is not None:
        options.append(f"batch_size={stage.batch_size}")
    if stage.attempts > 1:
        options.append(f"attempts={stage.attempts}")
    if stage.deadline_s is not None:
        options.append(f"deadline_s={stage.deadline_s:g}")
    if stage.isolate:
        options.append("isolate")
    if stage.memo is not None:
        options.append(f"memo={stage.memo}")
    return f"  [{', '.join(options)}]" if options else ""


def _needs(task: StagePlan) -> str:
    needs = [f"{name}={amount:g}" for name, amount in task.resources.items()]
    needs += [f"gate {name}={slots}" for name, slots in task.gates.items()]
    if task.priority:
        needs.append(f"priority {task.priority}")
    return f" ({', '.join(needs)})" if needs else ""


def _fields(known: FieldSet) -> str:
    names = ", ".join(sorted(known.names))
    if known.is_open:
        return f"fields {names}, maybe more" if names else "fields not known before reading"
    return f"fields {names}"


def _batching(batching: Batching) -> str:
    if batching.fixed is not None:
        return f"{batching.fixed:,} records each, as asked"
    return (
        f"from {batching.first} records on, steered to {1000 * batching.target_task_s:.0f} ms per "
        f"task; at most {batching.largest:,} records or {batching.largest_bytes >> 20} MiB"
    )


def _node(name: str) -> str:
    return name.replace("+", "_and_")


def _quoted(text: str) -> str:
    return text.replace('"', "#quot;")
