"""The colours of what is drawn; they read on a light and on a dark page.

Tables take theirs from the style sheets, which know what the browser prefers.
A plot is drawn by numbers and does not: its colours have about equal contrast
with both, and its background is the page's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sage_dask import breakdown, spent
from sage_dask.dashboard.page.slots import Slots

# As far from white as from the dark page's ground.
NEUTRAL = "#767c86"
GRID = "#8a919c"

JOBS = (
    "#3584e4",
    "#d9730d",
    "#26a269",
    "#b1559b",
    "#c29a1f",
    "#7a6ad8",
    "#d64550",
    "#2a9db0",
)

STAGES = (
    "#3584e4",
    "#26a269",
    "#7a6ad8",
    "#2a9db0",
    "#c2569b",
    "#7f9f2f",
    "#5f7fbf",
    "#1c8c7d",
    "#9a6fb8",
    "#4aa3d8",
)

# Waiting is warm, moving is brown, what belongs to the driver is grey.
_PARTS: Mapping[str, str] = {
    spent.ADMISSION: "#6f7a89",
    spent.SCHEDULING: "#e0b040",
    spent.NODE: "#e08a2c",
    spent.GATE: "#d9602f",
    spent.QUOTA: "#c9803f",
    spent.POLICY: "#d6a36a",
    breakdown.DASK: "#b58a52",
    breakdown.TRANSFER: "#a0785a",
    spent.INPUTS: "#8c6d5c",
    spent.QUEUE: "#c7a25c",
    breakdown.SETUP: "#7d7f6c",
    spent.PACKING: "#8f8a80",
    spent.LOST: "#d64550",
    spent.RETURN: "#8b95a3",
    spent.COMMIT: "#5f6b7a",
    breakdown.RESIDUE: "#a8aeb7",
}

_OF_CALLS: Mapping[str, str] = {
    breakdown.TURN: "#e08a2c",
    breakdown.SERVER_QUEUE: "#d9602f",
    breakdown.FIRST_TOKEN: "#2a9db0",
    breakdown.GENERATION: "#3584e4",
    breakdown.NETWORK: "#a0785a",
    breakdown.ANSWER: "#7a6ad8",
    breakdown.BACKOFF: "#d64550",
    breakdown.REST: "#a8aeb7",
}


class PartColours:
    """One colour for each part of the latency; stages keep theirs while they are shown."""

    def __init__(self) -> None:
        self._stages = Slots(len(STAGES))
        self._of_stages: Mapping[str, int] = {}

    def show(self, stages: Iterable[str]) -> None:
        """Give each of these stages a colour that no other has, as far as there are any."""
        self._of_stages = self._stages.assign(stages)

    def part(self, part: breakdown.Part) -> str:
        """Return the colour of a part of the whole latency."""
        if not part.is_stage:
            return _PARTS.get(part.name, NEUTRAL)
        return STAGES[self._of_stages[part.name]] if part.name in self._of_stages else NEUTRAL

    @staticmethod
    def of_calls(part: breakdown.Part) -> str:
        """Return the colour of a part of a stage that asks model servers."""
        return _OF_CALLS.get(part.name, NEUTRAL)
