"""How a run was started from the command line, so that it can be started again.

The journal keeps it, and ``sage-dask resume`` reads it.  It travels from the command
to the run's options beside ``Pipeline.run``, whose callers have nothing to say about it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Launch:
    """What starts a run again."""

    pipeline: str
    """As the command line named it: a file, ``module:name`` or ``file.py:name``."""
    folder: str
    """Where it was typed; relative paths are meant from there."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What was said, by name, as JSON takes it."""
    command: str = ""
    """What to type to go on, there."""
    typed: str = ""
    """What was typed to start it; empty where that is not known."""

    def as_json(self) -> str:
        """Return it as JSON; ``from_json`` is the way back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return what JSON says.

        Raises:
            ValueError, TypeError: It says nothing of the kind.
        """
        return cls(**json.loads(text))


_current: ContextVar[Launch | None] = ContextVar("launch", default=None)


def current_launch() -> Launch | None:
    """Return how the command line started what runs here; None where it did not."""
    return _current.get()


@contextmanager
def launched(launch: Launch | None) -> Iterator[None]:
    """Have the runs in the block know how they were started."""
    token = _current.set(launch)
    try:
        yield
    finally:
        _current.reset(token)
