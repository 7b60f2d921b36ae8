"""A browser for the tests: found, installed where that is possible, or asked for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def browser(monkeypatch):
    """Lend the script as a module; nothing runs when it is imported."""
    monkeypatch.syspath_prepend(str(TOOLS))
    spec = importlib.util.spec_from_file_location("browser_under_test", TOOLS / "browser.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("bootstrap", None)


def on_path(monkeypatch, browser, *names: str) -> None:
    """Have only these programs on the PATH."""
    monkeypatch.setattr(
        browser.shutil, "which", lambda name: f"/usr/bin/{name}" if name in names else None
    )


def test_a_browser_is_found_by_any_of_its_names(browser, monkeypatch):
    """Distributions differ."""
    on_path(monkeypatch, browser, "chromium-browser")
    assert browser.find() == "/usr/bin/chromium-browser"

    on_path(monkeypatch, browser)
    assert browser.find() is None


def test_root_on_debian_gets_it_installed(browser, monkeypatch):
    """As in a container that runs the tests."""
    on_path(monkeypatch, browser, "apt-get")
    monkeypatch.setattr(browser.os, "geteuid", lambda: 0)

    assert browser.install_command()[:2] == ["apt-get", "install"]


@pytest.mark.parametrize(("user", "programs"), [(1000, ["apt-get"]), (0, [])])
def test_others_are_told_what_to_install(browser, monkeypatch, user, programs):
    """In one line, with the command."""
    on_path(monkeypatch, browser, *programs)
    monkeypatch.setattr(browser.os, "geteuid", lambda: user)

    with pytest.raises(browser.Refusal, match="apt install chromium"):
        browser.install_command()


def test_what_drives_it_is_what_the_extra_names(browser):
    """One list, in pyproject.toml."""
    (requirement,) = browser.requirements()

    assert requirement.startswith("playwright>=")
