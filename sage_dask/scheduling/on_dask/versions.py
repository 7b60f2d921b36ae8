"""The releases of Dask whose inner workings the plugin was tested with."""

from __future__ import annotations

import distributed

from sage_dask.scheduling.statistics import Notice

# The first release of the tested range, and the first after it; pyproject.toml says the same.
TESTED = ("2026.8", "2026.9")


def version_notice(version: str = distributed.__version__) -> Notice | None:
    """Return a warning where a release of Dask is outside the tested range.

    >>> version_notice("2026.8.1") is None
    True
    >>> print(version_notice("2027.1.0").text.partition(";")[0])
    distributed 2027.1.0 is outside the tested range 2026.8 <= version < 2026.9
    """
    first, beyond = (_numbers(bound) for bound in TESTED)
    if first <= _numbers(version) < beyond:
        return None
    return Notice(
        "version",
        f"distributed {version} is outside the tested range {TESTED[0]} <= version < {TESTED[1]}; "
        "placement relies on details that may have changed, so run the contract tests "
        "(tests/scheduling/on_dask/test_dask_contract.py), install a tested release, or use "
        "policy='dask'",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
