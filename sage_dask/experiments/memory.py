"""How much memory this process took at the most."""

from __future__ import annotations

from pathlib import Path


def own_peak_mib() -> float:
    """Return this process's largest resident size.

    Not ``ru_maxrss``: a process starts with the peak of the one that started it.
    """
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
