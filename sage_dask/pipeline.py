"""The pipeline a user declares: an immutable chain of source, stages and sink.

Every method returns a new pipeline, so that a prefix can be shared and extended
in two directions.  Nothing is read, checked or started before ``plan`` or
``run``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sage_dask.budget import Budget
from sage_dask.errors import PlanError, did_you_mean, listed
from sage_dask.max_errors import MaxErrors
from sage_dask.operators.basic import Filter, FlatMap, Map
from sage_dask.operators.files.overlap import check_apart
from sage_dask.options import Resuming, RunOptions
from sage_dask.plan import Batching, Plan
from sage_dask.planner import make_plan
from sage_dask.record import Record
from sage_dask.report import Report
from sage_dask.runner import LocalRunner, Runner
from sage_dask.schedule import STOCK, Scheduling
from sage_dask.scheduling import policies
from sage_dask.scheduling.policy import Policy
from sage_dask.stage import Operator, Sink, Source, Stage
from sage_dask.standing import Observer
from sage_dask.watchdog import MAX_STALL_S

if TYPE_CHECKING:
    from dask.delayed import Delayed


@dataclass(frozen=True)
class Pipeline:
    """A chain of operators over records, declared and not yet run.

    >>> from sage_dask import Collect, FromIterable, Pipeline
    >>> shout = (
    ...     Pipeline("shout")
    ...     .source(FromIterable([{"text": "hello"}, {"text": "world"}]))
    ...     .map(lambda record: {"text": record["text"].upper()}, name="upper")
    ...     .sink(Collect())
    ... )
    >>> report = shout.run()
    >>> [record["text"] for record in shout.output.records]
    ['HELLO', 'WORLD']
    """

    name: str
    input: Source | None = None
    stages: tuple[Stage, ...] = ()
    output: Sink | None = None

    @property
    def imports(self) -> tuple[str, ...]:
        """Heavy modules that the operators import: what to give ``LocalNodes(preload=...)``."""
        return tuple(sorted({name for stage in self.stages for name in stage.operator.imports}))

    def source(self, source: Source) -> Pipeline:
        """Return this pipeline reading from ``source``."""
        _check_kind(source, Source, f"pipeline {self.name!r}: source")
        return replace(self, input=source)

    def sink(self, sink: Sink) -> Pipeline:
        """Return this pipeline writing to ``sink``."""
        _check_kind(sink, Sink, f"pipeline {self.name!r}: sink")
        return replace(self, output=sink)

    def stage(
        self,
        name: str,
        operator: Operator,
        *,
        batch_size: int | None = None,
        resources: Mapping[str, float] | None = None,
        gates: Mapping[str, int] | None = None,
        priority: int = 0,
        attempts: int = 1,
        fuse: bool = True,
        deadline_s: float | None = None,
        isolate: bool = False,
        memo: bool | None = None,
    ) -> Pipeline:
        """Return this pipeline with one more stage at its end.

        Args:
            name: What errors, reports, the dashboard and Dask keys call the stage.
            operator: The work on each batch.
            batch_size: Most records given to the operator at once; None for all that travel
                together.
            resources: Worker resources that a task holds while it runs.
            gates: Slots of cluster-wide gates that a task holds while it runs.
            priority: Higher runs first among tasks that are ready.
            attempts: Tries per record before it counts as failed.
            fuse: False keeps the stage in tasks of its own.
            deadline_s: Most seconds that the operator may work on one record, which fails
                otherwise; see :class:`.Stage` for what a batch with such records costs.
            isolate: Run the operator in a subprocess of the worker, which can be killed at the
                deadline; records that crash it fail alone.
            memo: Whether what the stage makes is kept in a run's journal before later stages
                begin, so that their crash does not repeat it; None for model servers' answers.
        """
        stage = Stage(
            name,
            operator,
            batch_size=batch_size,
            resources=dict(resources or {}),
            gates=dict(gates or {}),
            priority=priority,
            attempts=attempts,
            fuse=fuse,
            deadline_s=deadline_s,
            isolate=isolate,
            memo=memo,
        )
        return replace(self, stages=(*self.stages, stage))

    def map(
        self,
        function: Callable[[Record], Any],
        *,
        name: str | None = None,
        reads: Sequence[str] = (),
        writes: Sequence[str] | None = None,
        **options: Any,
    ) -> Pipeline:
        """Return this pipeline with ``function`` applied to each record; it may be ``async``.

        Args:
            function: Takes a record and returns the record to go on with.
            name: Name of the stage; the function's own where it has one.
            reads: Fields the function needs, so that planning can miss them.
            writes: Fields it adds; None where that is not known.
            options: As for :meth:`stage`.
        """
        operator = Map(function, reads, writes)
        return self.stage(name or self._free_name(function, "map"), operator, **options)

    def filter(
        self,
        function: Callable[[Record], bool],
        *,
        name: str | None = None,
        reads: Sequence[str] = (),
        **options: Any,
    ) -> Pipeline:
        """Return this pipeline keeping the records for which ``function`` is true."""
        operator = Filter(function, reads)
        return self.stage(name or self._free_name(function, "filter"), operator, **options)

    def flat_map(
        self,
        function: Callable[[Record], Iterable[Record]],
        *,
        name: str | None = None,
        reads: Sequence[str] = (),
        writes: Sequence[str] | None = None,
        **options: Any,
    ) -> Pipeline:
        """Return this pipeline with each record replaced by those that ``function`` yields."""
        operator = FlatMap(function, reads, writes)
        return self.stage(name or self._free_name(function, "flat_map"), operator, **options)

    def plan(
        self,
        on: Any = None,
        *,
        policy: str | Any | None = None,
        batch_size: int | None = None,
        target_task_s: float | None = None,
        **scheduling: Any,
    ) -> Plan:
        """Check the pipeline and return what would run.

        Args:
            on: What it would run on, as for :meth:`run`; resources and gates are checked
                against it.
            policy: How tasks are placed, as for :meth:`run`.
            batch_size: Records that travel together; None to let measurements decide.
            target_task_s: Busy time in seconds that tasks are steered to.
            scheduling: ``gates``, ``priority``, ``weight``, ``quota`` and ``record_priority``,
                as for :meth:`run`.

        Raises:
            PlanError: The pipeline can not run.
            SourceError: The input is missing or unreadable.
            SinkError: The output can not be written.
        """
        given = {name: value for name, value in scheduling.items() if value is not None}
        asked = Scheduling(policy, **given)
        with _runner_on(on) as runner:
            return self._plan(runner, asked, _batching(batch_size, target_task_s))

    def run(
        self,
        on: Any = None,
        *,
        policy: str | Any | None = None,
        gates: Mapping[str, int] | None = None,
        priority: float = 0,
        weight: float = 1,
        quota: Mapping[str, float] | None = None,
        record_priority: str | None = None,
        batch_size: int | None = None,
        target_task_s: float | None = None,
        ordered: bool = True,
        run_dir: str | os.PathLike[str] | None = None,
        durable: bool = True,
        retry_failed: bool = False,
        accept_changes: Sequence[str] = (),
        extend: bool = False,
        follow: bool = False,
        max_errors: int | float | None = None,
        observer: Observer | None = None,
        max_in_flight: int | None = None,
        max_stall_s: float = MAX_STALL_S,
        max_cost: float | None = None,
        max_tokens: int | None = None,
    ) -> Report:
        """Run the pipeline to its end.

        In this process tasks run one at a time and share with nobody: policy, gates, priorities,
        weight and quota are checked, and then change nothing.  Batches that wait for answers do so
        together, as far as the gates of their model servers let them.

        Args:
            on: A Dask client, a cluster, a scheduler's address, nodes of ours, or a runner.
                Nothing runs it in this process.
            policy: How tasks are placed: a policy or its name, ``"dask"`` for Dask's own
                placement, None for what the cluster has (``"spread"`` where nothing was set).
            gates: Limits of cluster-wide gates, set before the run; they stay afterwards.  The gate
                of a model server bears its URL, and holds in this process, too.
            priority: Of the whole job, added to those of stages and records; higher runs first.
            weight: Share of the cluster among jobs: 2 gets twice what 1 gets.
            quota: Most that the job may hold at once, by worker resource or gate; the name
                ``"threads"`` limits the tasks that run at once.
            record_priority: Field of the source's records that holds their priority, 0 where it
                is absent.  A record with anything but a number there fails.  Records that stand
                together travel together only where their priorities are equal.
            batch_size: Records that travel together; None to let measurements decide.
            target_task_s: Busy time in seconds that tasks are steered to.
            ordered: Write in the order of reading; False writes batches as they complete.
            run_dir: Folder of the run.  What became of each record is kept there before anything
                else counts, so that the same call goes on where a killed run ended.
            durable: False keeps nothing in ``run_dir`` but the run's events, at no cost.
            retry_failed: Try the records again that failed in earlier starts of the run.
            accept_changes: Stages that may differ from those that the run was begun with; what
                is done stays as it is.
            extend: Whether the input may have records that it had not; those that are done are
                found by their ids.
            follow: Write rows as they are done to ``growing.jsonl`` in the run's folder, too.
            max_errors: Failures that end the run: more than a number of records, or than a share
                of those read, such as 0.01.
            observer: Called with the progress from the start to the end, such as
                ``sage_dask.progress.show_progress()``.
            max_in_flight: Most batches on their way at once.
            max_stall_s: Seconds on a cluster without a batch that comes back, after which the run
                ends and may go on later; the progress tells the reason after half a minute.
            max_cost: What requests to model servers may cost, by the prices of the operators.
                Once it is reached nothing more is read, and what is under way is written.
            max_tokens: The same in tokens, prompts and answers together.

        Returns:
            What the run cost.  Records that failed are counted there and kept by the sink.
        """
        options = RunOptions(
            ordered=ordered,
            run_dir=None if run_dir is None else Path(run_dir),
            durable=durable,
            resuming=Resuming(retry_failed, tuple(accept_changes), extend),
            follow=follow,
            max_errors=MaxErrors(max_errors),
            observer=observer,
            max_in_flight=max_in_flight,
            max_stall_s=max_stall_s,
            scheduling=Scheduling(
                policy, gates or {}, priority, weight, quota or {}, record_priority
            ),
            budget=Budget(max_cost, max_tokens),
        )
        with _runner_on(on) as runner:
            batching = _batching(batch_size, target_task_s)
            plan = self._plan(runner, options.scheduling, batching)
            return runner.run(plan, options)

    def to_delayed(self, *, batch_size: int = 100) -> list[Delayed]:
        """Return the pipeline as Dask delayed objects, one per batch of the whole input.

        Each computes to a :class:`sage_dask.record.Batch` with its records and failures; the
        sink is left out.  For ``dask.compute`` and ``dask.visualize`` of inputs that fit in
        memory: ``run`` is what feeds a cluster in a bounded window.  Dask places the tasks, and
        it knows no gates: ``run`` is also what holds those.

        >>> from sage_dask import Collect, FromIterable, Pipeline
        >>> double = Pipeline("double").source(FromIterable([1, 2, 3])).sink(Collect())
        >>> double = double.map(lambda record: {"value": 2 * record["value"]}, name="twice")
        >>> [batch.compute(scheduler="sync").records for batch in double.to_delayed(batch_size=2)]
        [[{'value': 2}, {'value': 4}], [{'value': 6}]]
        """
        from sage_dask.graph import delayed_batches

        return delayed_batches(self.plan(batch_size=batch_size))

    def _plan(self, runner: Runner, scheduling: Scheduling, batching: Batching) -> Plan:
        check_policy(scheduling.policy)
        if self.input is None or self.output is None:
            missing = "source" if self.input is None else "sink"
            raise PlanError(
                f"pipeline {self.name!r} has no {missing}; add one with .{missing}(...)"
            )
        self.input.check()
        self.output.check()
        check_apart(self.input, self.output)
        plan = make_plan(
            self.name,
            self.input,
            self.stages,
            self.output,
            source_fields=self.input.known_fields(),
            batching=batching,
            worker_resources=runner.worker_resources(),
            gates=_gate_limits(runner, scheduling),
            scheduling=scheduling,
        )
        for stage in self.stages:
            _check_operator(self.name, stage)
        return plan

    def _free_name(self, function: Callable[..., Any], fallback: str) -> str:
        """Return a stage name for a function: its own, numbered where that is taken."""
        name = getattr(function, "__name__", fallback)
        if not name.isidentifier() or name.startswith("_"):
            name = fallback
        taken = {stage.name for stage in self.stages}
        numbered = (f"{name}_{number}" for number in range(2, len(taken) + 3))
        return name if name not in taken else next(n for n in numbered if n not in taken)


def check_policy(policy: object) -> None:
    """Raise ``PlanError`` for a name that no policy has; a policy itself passes."""
    if isinstance(policy, str) and policy != STOCK and not policies.is_known(policy):
        known = (STOCK, *policies.known())
        raise PlanError(
            f"unknown policy {policy!r}; known are {listed(known)}{did_you_mean(policy, known)}"
        )
    if not isinstance(policy, str | Policy | None):
        raise PlanError(
            f"policy {policy!r} is neither a name nor an instance of "
            "sage_dask.scheduling.policy.Policy"
        )


def _gate_limits(runner: Runner, scheduling: Scheduling) -> Mapping[str, float] | None:
    """Return the limits that a run will find; None where no cluster says what it has."""
    limits = runner.gates()
    return None if limits is None else {**limits, **scheduling.gates}


def _check_kind(given: object, wanted: type, what: str) -> None:
    if isinstance(given, type) or not isinstance(given, wanted):
        raise PlanError(
            f"{what} {given!r} is no {wanted.__name__}; pass an instance of one of "
            f"sage_dask.operators, or of your own subclass of sage_dask.{wanted.__name__}"
        )


def _check_operator(pipeline: str, stage: Stage) -> None:
    try:
        stage.operator.check()
    except PlanError as error:
        raise type(error)(f"pipeline {pipeline!r}, stage {stage.name!r}: {error}") from error


def _batching(batch_size: int | None, target_task_s: float | None) -> Batching:
    if batch_size is not None and batch_size < 1:
        raise PlanError(f"batch_size={batch_size} must be at least 1")
    if target_task_s is not None and not target_task_s > 0:
        raise PlanError(f"target_task_s={target_task_s} must be a positive number of seconds")
    default = Batching()
    return replace(default, fixed=batch_size, target_task_s=target_task_s or default.target_task_s)


@contextmanager
def _runner_on(on: Any) -> Iterator[Runner]:
    """Lend the runner for whatever the user named."""
    if on is None:
        yield LocalRunner()
    elif isinstance(on, Runner):
        yield on
    else:
        # Importing distributed takes a third of a second, which a local run need not pay.
        from sage_dask.dask_runner import connected

        with connected(on) as runner:
            yield runner
