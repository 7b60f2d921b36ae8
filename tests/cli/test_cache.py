"""``sage-dask cache``: what is kept, and forgetting it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sage_dask.endpoint.cache import default_path
from sage_dask.endpoint.cache_file import CacheFile


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Lend a user's cache folder of its own, and a function that keeps two answers in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def keep():
        file = CacheFile(default_path(), max_bytes=1 << 20, clock=lambda: 1_700_000_000)
        file.put({b"1": bytes(500_000), b"2": b"two"})
        file.close()

    return keep


def test_show_tells_what_is_kept(kept, cli):
    """Place, number of answers, their size and the oldest use are printed."""
    kept()

    result = cli("cache", "show")

    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"response cache {default_path()}\n  answers     2\n")
    assert "  size        0.5 MiB" in result.stdout
    assert "  oldest use  2023-11-1" in result.stdout


def test_show_of_nothing_makes_nothing(kept, cli):
    """Looking at a cache that is not there does not make one."""
    result = cli("cache", "show")

    assert result.exit_code == 0
    assert "empty" in result.stdout
    assert not default_path().exists()


def test_clear_forgets_all(kept, cli):
    """All answers are forgotten and counted, and a second time there is nothing to forget."""
    kept()

    first, second = cli("cache", "clear"), cli("cache", "clear")

    assert first.stdout == f"forgot 2 answers in {default_path()}\n"
    assert second.stdout == f"forgot 0 answers in {default_path()}\n"
    assert "answers     0\n" in cli("cache", "show").stdout


def test_another_file_is_named(kept, cli, tmp_path):
    """The option names a file, and the user's own is left alone."""
    kept()
    other = tmp_path / "other.sqlite"

    result = cli("cache", "clear", "--path", str(other))

    assert result.stdout == f"forgot 0 answers in {other}\n"
    assert not other.exists()
    assert "answers     2\n" in cli("cache", "show").stdout


def test_what_is_no_cache_is_an_error(kept, cli, tmp_path):
    """A folder in the file's place is told with what to do."""
    result = cli("cache", "show", "--path", str(tmp_path))

    assert result.exit_code == 1
    assert "can not be used" in result.stderr
    assert "remove the file" in result.stderr
    assert Path(tmp_path).is_dir()
