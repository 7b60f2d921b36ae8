"""How long one try may take, and which part of it took too long."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from sage_dask.errors import PlanError

Part: TypeAlias = Literal["connect", "first_byte", "idle", "total"]

# What did not happen, and the parameter that allows it more time.
_TOLD = {
    "connect": ("no connection", "connect_s"),
    "first_byte": ("no first byte of the answer", "first_byte_s"),
    "idle": ("no further byte of the answer", "idle_s"),
    "total": ("no whole answer", "timeout_s"),
}


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The most seconds that each part of a try may take."""

    connect_s: float = 10.0
    """From looking up the host to an open connection."""
    first_byte_s: float | None = None
    """From the start to the first byte of the answer's body; None leaves it to ``total_s``.

    An answer that is not streamed begins when it is complete.
    """
    idle_s: float = 60.0
    """Between two bytes of an answer that has begun."""
    total_s: float = 600.0
    """From the start to the last byte."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            # "not >" refuses NaN as well, which no comparison would ever let expire.
            if value is not None and not value > 0:
                raise PlanError(
                    f"the deadline {each.name}={value} must be more than 0 seconds; "
                    "leave it out for the default"
                )

    def limit_s(self, part: Part) -> float:
        """Return the most seconds of a part."""
        limits = {
            "connect": self.connect_s,
            "first_byte": self.total_s if self.first_byte_s is None else self.first_byte_s,
            "idle": self.idle_s,
            "total": self.total_s,
        }
        return limits[part]

    def told(self, part: Part) -> str:
        """Return what to say when a part took too long: which, its limit, how to raise it."""
        missing, parameter = _TOLD[part]
        return f"{missing} within {self.limit_s(part):g} s (raise {parameter} to wait longer)"
