"""How many requests a model server may be sent at once."""

from __future__ import annotations

from dataclasses import dataclass

# More than one GPU takes, and few enough for one process to keep track of.
CEILING = 512


@dataclass(frozen=True, slots=True)
class RequestLimit:
    """What a user asks of the gate in front of a server."""

    fixed: int | None = None
    """Requests in flight, cluster-wide; None to follow the server's own load."""
    ceiling: int = CEILING
    """Most that the gate may find by itself."""
