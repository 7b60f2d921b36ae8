"""What all tests share: no deadlines, and the commands that a document shows."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from hypothesis import settings

# A busy machine is no defect: tests say what must hold, never how fast.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell that runs the suite in the background has it ignore Ctrl-C, and with it all programs that
# tests start and then interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _blocks(document: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return [text for found, text in _BLOCK.findall(document) if found == language]


def _commands(document: str) -> list[str]:
    """Return the command lines of all consoles, without their comments."""
    lines = "\n".join(_blocks(document, "console")).splitlines()
    return [line[2:].partition(" #")[0].strip() for line in lines if line.startswith("$ ")]


@pytest.fixture
def blocks() -> Callable[[str, str], list[str]]:
    """Lend the function that finds a document's blocks of a language."""
    return _blocks


@pytest.fixture
def commands() -> Callable[[str], list[str]]:
    """Lend the function that finds a document's command lines."""
    return _commands
