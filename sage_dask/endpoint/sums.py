"""Counts that add up: from one request to a stage, a batch and a whole job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self


@dataclass(slots=True)
class Sums:
    """Base of dataclasses whose fields are all sums, and 0 where nothing was counted."""

    def add(self, other: Self) -> None:
        """Count what another counted."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def as_dict(self) -> dict[str, float]:
        """Return the sums that are not zero."""
        return {each.name: value for each in fields(self) if (value := getattr(self, each.name))}

    @classmethod
    def from_dict(cls, sums: Mapping[str, Any]) -> Self:
        """Return the sums of a dict made by ``as_dict``."""
        return cls(**sums)

    def __bool__(self) -> bool:
        return bool(self.as_dict())
