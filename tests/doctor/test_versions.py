"""Packages here, and beside those of a cluster."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from sage_dask.doctor.finding import Mark
from sage_dask.doctor.versions import (
    COMPARED,
    EXTRAS,
    Installed,
    cluster_findings,
    installed_findings,
)

HERE = {
    "python": "3.11.7",
    "sage-dask": "0.1.0",
    "dask": "2026.8.0",
    "distributed": "2026.8.0",
    "msgpack": "1.1.0",
    "numpy": "2.0.0",
}
ALL = {package for extra in EXTRAS.values() for package in extra.packages}
PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def troubles(findings):
    """Return those that are not well; each says what to do."""
    found = [finding for finding in findings if finding.mark is not Mark.OK]
    assert all(finding.advice for finding in found)
    return found


def test_what_is_tested_and_complete_is_well():
    """Every version is named, and every extra."""
    versions, extras = installed_findings(Installed(HERE, ALL))

    assert (versions.mark, extras.mark) == (Mark.OK, Mark.OK)
    assert all(f"{name} {HERE[name]}" in versions.value for name in COMPARED)
    assert extras.value == ", ".join(EXTRAS)


def test_the_table_of_extras_is_that_of_the_project():
    """What pip would install for an extra is what is looked for."""
    declared = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    own = {
        name: {re.split(r"[<>=\[]", each)[0] for each in packages} - {"sage-dask"}
        for name, packages in declared.items()
        if name != "dev"
    }

    assert {name: set(extra.packages) for name, extra in EXTRAS.items()} == own


def test_a_release_that_was_not_tested_is_warned_of():
    """The dispatcher's own notice is split into what is and what to do."""
    notice = "distributed 2027.1 is outside the tested range; use policy='dask'"

    (found,) = troubles(installed_findings(Installed(HERE, ALL, notice)))

    assert found.mark is Mark.WARN
    assert found.value == "distributed 2027.1 is outside the tested range"
    assert found.advice == "use policy='dask'"


def test_dask_beside_another_distributed_is_warned_of():
    """The two are one release."""
    (found,) = troubles(installed_findings(Installed({**HERE, "dask": "2026.7.0"}, ALL)))

    assert (found.mark, found.value) == (Mark.WARN, "dask 2026.7.0 beside distributed 2026.8.0")
    assert "dask==2026.8.0" in found.advice


def test_missing_extras_say_what_they_are_for():
    """One line names what is missing, also of an extra that is there by half."""
    (found,) = troubles(installed_findings(Installed(HERE, ALL - {"aiohttp", "bm25s"})))

    assert (found.mark, found.value) == (
        Mark.NOTE,
        "not installed: http (aiohttp), rag (bm25s)",
    )
    assert "http for model servers" in found.advice
    assert "pip install 'sage-dask[http]'" in found.advice


def test_one_release_everywhere_is_well():
    """Whoever told nothing of a package is not held to be different."""
    (found,) = cluster_findings(HERE, HERE, {"a": HERE, "b": {"dask": "2026.8.0"}})

    assert found.mark is Mark.OK


@pytest.mark.parametrize(
    ("package", "version", "mark"),
    [
        ("python", "3.12.1", Mark.FAIL),
        ("python", "3.11.9", Mark.NOTE),
        ("sage-dask", "0.0.9", Mark.FAIL),
        ("sage-dask", None, Mark.FAIL),
        ("dask", "2026.7.0", Mark.WARN),
        ("distributed", "2026.7.0", Mark.WARN),
        ("msgpack", "1.0.0", Mark.NOTE),
        ("numpy", None, Mark.NOTE),
    ],
)
def test_another_release_names_those_that_have_it(package, version, mark):
    """Two workers differ in the same way, and share a line; the third does not."""
    other = {**HERE, package: version}

    (found,) = troubles(cluster_findings(HERE, HERE, {"b": other, "a": other, "c": HERE}))

    assert found.mark is mark
    assert found.value == f"{package} {version or 'missing'} on a, b, {HERE[package]} here"


def test_the_scheduler_is_compared_too():
    """It is named as what it is; nothing is well beside it."""
    (found,) = cluster_findings(HERE, {**HERE, "dask": "2026.7.0"}, {})

    assert found.value == "dask 2026.7.0 on the scheduler, 2026.8.0 here"


def test_nothing_is_said_of_a_cluster_that_told_nothing():
    """Silence is not equality."""
    assert list(cluster_findings(HERE, None, {})) == []
