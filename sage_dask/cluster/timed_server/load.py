"""How full a server was over time, to the second rather than at the moments someone asked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What a server did since its counters were reset."""

    elapsed_s: float
    running_s: float
    """Running sequences, added up over time."""
    waiting_s: float
    """Waiting sequences, added up over time."""
    most_running: int
    most_waiting: int

    @property
    def mean_running(self) -> float:
        """Sequences that ran, averaged over the time."""
        return self.running_s / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def mean_waiting(self) -> float:
        """Length of the server's queue, averaged over the time."""
        return self.waiting_s / self.elapsed_s if self.elapsed_s else 0.0


class LoadMeter:
    """Adds up what is told at every change.

    Args:
        now_s: When to begin.
    """

    def __init__(self, now_s: float) -> None:
        self._running = 0
        self._waiting = 0
        self.reset(now_s)

    def reset(self, now_s: float) -> None:
        """Begin anew; what runs and waits goes on."""
        self._began_s = self._since_s = now_s
        self._running_s = self._waiting_s = 0.0
        self._most_running, self._most_waiting = self._running, self._waiting

    def observe(self, running: int, waiting: int, now_s: float) -> None:
        """Note how many run and wait from now on."""
        self._settle(now_s)
        self._running, self._waiting = running, waiting
        self._most_running = max(self._most_running, running)
        self._most_waiting = max(self._most_waiting, waiting)

    def load(self, now_s: float) -> Load:
        """Return the sums until now."""
        self._settle(now_s)
        return Load(
            now_s - self._began_s,
            self._running_s,
            self._waiting_s,
            self._most_running,
            self._most_waiting,
        )

    def _settle(self, now_s: float) -> None:
        passed_s = now_s - self._since_s
        self._running_s += self._running * passed_s
        self._waiting_s += self._waiting * passed_s
        self._since_s = now_s
