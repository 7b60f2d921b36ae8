"""Two operators for support tickets: one computes, the other waits for a server."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sage_dask import Operator, Outcome, Record
from sage_dask.errors import PlanError


@dataclass
class Classify(Operator):
    """Label each text by the first rule that matches it."""

    rules: str
    """JSON file of regular expressions by label, as the workers see its path."""
    text: str = "text"
    """Field that holds the text."""
    _patterns: Mapping[str, re.Pattern[str]] | None = field(
        init=False, repr=False, compare=False, default=None
    )

    @property
    def reads(self) -> Sequence[str]:
        """The text."""
        return (self.text,)

    @property
    def writes(self) -> Sequence[str]:
        """The label."""
        return ("label",)

    def check(self) -> None:
        """Miss the rules on the driver, before any work is spent."""
        if not Path(self.rules).is_file():
            raise PlanError(f"Classify: no rules at {self.rules!r}; check the path")

    def setup(self) -> None:
        """Compile the rules, once per worker process: the place to load a model."""
        rules = json.loads(Path(self.rules).read_text(encoding="utf-8"))
        self._patterns = {label: re.compile(rule, re.IGNORECASE) for label, rule in rules.items()}

    def process_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Label all records; threads share the operator, so nothing of it is changed here."""
        return [{**record, "label": self._label(record[self.text])} for record in records]

    def teardown(self) -> None:
        """Let go what ``setup`` made: the place to close files and connections."""
        self._patterns = None

    def _label(self, text: str) -> str:
        patterns = self._patterns or {}
        return next((label for label, rule in patterns.items() if rule.search(text)), "other")


class FakeDirectory:
    """Stands in for the client of a customer directory, which answers after a while."""

    NAMES: Mapping[int, str] = {7: "Ada", 11: "Grace"}

    async def name_of(self, customer: int) -> str:
        """Return a customer's name, or raise ``LookupError``."""
        await asyncio.sleep(0.05)
        if customer not in self.NAMES:
            raise LookupError(f"customer {customer} is unknown; known are {sorted(self.NAMES)}")
        return self.NAMES[customer]


@dataclass
class FindCustomer(Operator):
    """Add the customer's name; a whole batch waits no longer than its slowest record."""

    reads = ("customer",)
    writes = ("name",)

    concurrency: int = 16
    """Most look-ups under way per batch."""
    _directory: FakeDirectory | None = field(init=False, repr=False, compare=False, default=None)

    def setup(self) -> None:
        """Make the client."""
        self._directory = FakeDirectory()

    async def process_batch(self, records: Sequence[Record]) -> Sequence[Outcome]:
        """Look up all records together; an exception among the outcomes fails its record."""
        directory, slots = self._directory, asyncio.Semaphore(self.concurrency)
        if directory is None:
            raise RuntimeError("FindCustomer was not set up; run it in a pipeline")

        async def named(record: Record) -> Outcome:
            try:
                async with slots:
                    return {**record, "name": await directory.name_of(record["customer"])}
            except LookupError as error:
                return error

        return await asyncio.gather(*map(named, records))

    def teardown(self) -> None:
        """Let go the client."""
        self._directory = None
