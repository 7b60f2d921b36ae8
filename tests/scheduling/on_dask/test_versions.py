"""A release of Dask outside the tested range is warned of."""

from __future__ import annotations

import re
from pathlib import Path

import distributed
import pytest

from sage_dask.scheduling.on_dask import plugin
from sage_dask.scheduling.on_dask.versions import TESTED, version_notice
from tests.scheduling.on_dask.dask_state import DaskState
from tests.scheduling.on_dask.plugged import notices, plug


@pytest.mark.parametrize("version", ["2026.7.1", "2025.12.0", "2026.9.0", "2027.1.0"])
def test_a_release_outside_the_range_is_named_with_the_range(version):
    """And the text says what to do."""
    notice = version_notice(version)

    assert notice.kind == "version"
    assert f"distributed {version} is outside the tested range {TESTED[0]}" in notice.text


@pytest.mark.parametrize("version", ["2026.8.0", "2026.8.12", "2026.8.1rc1"])
def test_a_release_within_the_range_is_not(version):
    """Bug fixes of a tested release count as tested."""
    assert version_notice(version) is None


def test_the_installed_release_is_within_the_range():
    """Else the contract tests ran for nothing."""
    assert version_notice(distributed.__version__) is None


def test_pyproject_names_a_range_that_starts_with_ours():
    """Two places that could disagree, and must not."""
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text()

    (first,) = re.findall(r'"distributed>=([\d.]+)', text)

    assert first.startswith(TESTED[0])


def test_a_plugin_tells_of_an_untested_release_as_it_starts(monkeypatch):
    """In the scheduler's log, and to whoever listens."""
    monkeypatch.setattr(plugin, "version_notice", lambda: version_notice("2027.1.0"))

    with DaskState() as dask:
        plug(dask)

        (text,) = notices(dask, "version")
    assert "2027.1.0" in text
