"""Operators around plain functions: one record in, what the function says out.

A function that raises fails the record it was given and no other.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from sage_dask.record import Outcome, Record
from sage_dask.stage import FieldSet, Operator

N = TypeVar("N", Sequence[str], Sequence[str] | None)

_RecordFunction = Callable[[Record], Any]


@dataclass
class Map(Operator):
    """Replace each record by what ``function`` returns for it; ``async`` ones run together."""

    function: Callable[[Record], Record] | Callable[[Record], Awaitable[Record]]
    reads: Sequence[str] = ()
    writes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self.reads, self.writes = _names(self.reads), _names(self.writes)

    @property
    def immaterial(self) -> Sequence[str]:
        """What is only told to the planner."""
        return ("reads", "writes")

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function."""
        return inspect.iscoroutinefunction(self.function)

    def process_batch(
        self, records: Sequence[Record]
    ) -> Sequence[Outcome] | Awaitable[Sequence[Outcome]]:
        """Call the function on each record."""
        if self.is_async:
            return self._gather(records)
        return self._checked(_apply(self.function, records))

    async def _gather(self, records: Sequence[Record]) -> Sequence[Outcome]:
        calls = (cast(Awaitable[Record], self.function(record)) for record in records)
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, Exception):
                raise result
        return self._checked(cast(list[Outcome], results))

    def _checked(self, results: list[Any]) -> list[Outcome]:
        """Refuse what is no record: a forgotten ``return`` must not drop records in silence."""
        if set(map(type, results)) <= {dict}:
            return results
        name = getattr(self.function, "__qualname__", repr(self.function))
        return [
            result
            if isinstance(result, dict | Exception)
            else TypeError(
                f"map function {name!r} returned {type(result).__name__}, not a dict; return "
                "the new record, or use .filter() to drop and .flat_map() to expand"
            )
            for result in results
        ]


@dataclass
class Filter(Operator):
    """Keep the records for which ``function`` is true."""

    function: Callable[[Record], bool]
    reads: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.reads = _names(self.reads)

    @property
    def immaterial(self) -> Sequence[str]:
        """What is only told to the planner."""
        return ("reads",)

    def fields_after(self, before: FieldSet) -> FieldSet:
        """Return ``before``: a filter changes no record."""
        return before

    def process_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Ask the function about each record."""
        verdicts = _apply(self.function, records)
        return [
            verdict if isinstance(verdict, Exception) else record if verdict else None
            for record, verdict in zip(records, verdicts, strict=True)
        ]


@dataclass
class FlatMap(Operator):
    """Replace each record by the records that ``function`` yields for it.

    The new ones are called ``<id>/0``, ``<id>/1``, ...; none at all drops the record.
    """

    function: Callable[[Record], Iterable[Record]]
    reads: Sequence[str] = ()
    writes: Sequence[str] | None = None

    def __post_init__(self) -> None:
        self.reads, self.writes = _names(self.reads), _names(self.writes)

    @property
    def immaterial(self) -> Sequence[str]:
        """What is only told to the planner."""
        return ("reads", "writes")

    def process_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Call the function on each record and take all it yields."""
        return _apply(lambda record: list(self.function(record)), records)


@dataclass
class Select(Operator):
    """Keep only the named fields."""

    fields: Sequence[str]

    def __post_init__(self) -> None:
        self.fields = _names(self.fields)

    @property
    def reads(self) -> Sequence[str]:
        """The fields to keep must be there."""
        return self.fields

    @property
    def writes(self) -> Sequence[str]:
        """Nothing new."""
        return ()

    def fields_after(self, before: FieldSet) -> FieldSet:
        """Return exactly the kept fields."""
        return FieldSet(frozenset(self.fields), is_open=False)

    def process_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Copy the kept fields of each record."""
        return _apply(lambda record: {name: record[name] for name in self.fields}, records)


def _names(names: N) -> N:
    """Return names as a tuple, so that a list, a tuple and a single name are told alike."""
    if names is None:
        return names
    return cast(N, (names,) if isinstance(names, str) else tuple(names))


def _apply(function: _RecordFunction, records: Sequence[Record]) -> list[Any]:
    """Call a function on each record; an exception takes the place of its result."""
    results: list[Any] = []
    append = results.append
    for record in records:
        try:
            append(function(record))
        except Exception as error:
            append(error)
    return results
