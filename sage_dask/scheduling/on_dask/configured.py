"""What Dask's configuration says of us, in whatever process asks."""

from __future__ import annotations

import dask


def is_observed() -> bool:
    """Return whether jobs are observed: ``sage.observe``, which is on unless it is false.

    Off, nothing is told to the scheduler and no task's waits are measured; it is there to find
    out what observing costs.
    """
    return dask.config.get("sage.observe", True) is not False


def may_control() -> bool:
    """Return whether the dashboard may change anything: ``sage.allow-control``, off by default.

    Whoever reaches a dashboard could use it, so that anything but true means no.
    """
    return dask.config.get("sage.allow-control", False) is True
