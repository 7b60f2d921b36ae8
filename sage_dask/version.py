"""The version, and those of what we stand on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

__version__ = "0.1.0"


def versions() -> dict[str, str]:
    """Return the versions that a run's results depend on, by package."""
    found = {"python": platform.python_version(), "sage-dask": __version__}
    for package in ("dask", "distributed"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # A checkout on the path, say; no reason to fail a run.
            found[package] = "unknown"
    return found
