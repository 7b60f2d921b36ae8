"""How fast an engine's time goes by: as the clock's, or slower for a while.

A brown-out slows everything, steps and drawn latencies alike, also of what is
under way.  So engines know nothing of it: they live by a time of their own.
"""

from __future__ import annotations

import math


class Pace:
    """The relation between the clock's seconds and an engine's.

    Args:
        now_s: The clock's time, at which the engine's begins with 0.
    """

    def __init__(self, now_s: float) -> None:
        self._since_s = now_s
        self._engine_s = 0.0
        self.factor = 1.0
        """Seconds of the clock that a second of the engine takes; infinite if it stands still."""
        self._until_s = math.inf

    def slow(self, factor: float, for_s: float, now_s: float) -> None:
        """Go ``factor`` times slower for a while from now on; a later call replaces this one.

        Raises:
            ValueError: ``factor`` is not positive, or ``for_s`` negative.
        """
        if not factor > 0 or not for_s >= 0:
            raise ValueError(f"brown-out: factor={factor} must be positive and for_s={for_s} too")
        self._engine_s = self.engine_s(now_s)
        self._since_s, self.factor, self._until_s = now_s, factor, now_s + for_s

    def engine_s(self, now_s: float) -> float:
        """Return the engine's time; ``now_s`` must not decrease."""
        if now_s >= self._until_s:
            self._engine_s += (self._until_s - self._since_s) / self.factor
            self._since_s, self.factor, self._until_s = self._until_s, 1.0, math.inf
        return self._engine_s + (now_s - self._since_s) / self.factor

    def clock_s(self, engine_s: float) -> float:
        """Return when the engine's time will have come, as things stand; may be infinite."""
        rest = engine_s - self._engine_s
        if rest <= 0:
            return self._since_s
        slowed = (self._until_s - self._since_s) / self.factor
        # Without an end of the slow time, what comes after it is never reached.
        if rest <= slowed or math.isinf(self._until_s):
            return self._since_s + rest * self.factor
        return self._until_s + (rest - slowed)
