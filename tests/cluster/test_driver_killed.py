"""A driver that is killed leaves nothing running, and its run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from sage_dask.journal.lock import holder
from sage_dask.journal.opening import has_journal, open_store
from tests.cluster.blocking_driver import NUM_FREE
from tests.processes import left_of

pytestmark = pytest.mark.cluster

_DRIVER = Path(__file__).with_name("blocking_driver.py")
_NUM_RECORDS = 30

# Nodes look for their driver every few seconds; a busy machine may take its time.
_PATIENCE_S = 60


def num_safe(run):
    """Return how many records a run has done so far."""
    if not has_journal(run):
        return 0
    store = open_store(run, read_only=True)
    try:
        return store.counts().num_entries
    finally:
        store.close()


def eventually(condition):
    """Return whether something comes to hold."""
    pause = threading.Event()
    return any(condition() or pause.wait(0.02) for _ in range(50 * _PATIENCE_S))


def test_a_driver_that_is_killed_leaves_nothing_behind_but_its_journal(tmp_path):
    """No process of it stays, the run is free, and the same call does what was not safe."""
    rows = "".join(json.dumps({"n": n}) + "\n" for n in range(_NUM_RECORDS))
    (tmp_path / "input.jsonl").write_text(rows)
    command = [sys.executable, str(_DRIVER), str(tmp_path)]

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as driver:
        try:
            assert eventually((tmp_path / "blocked").exists)
            assert eventually(lambda: num_safe(tmp_path / "run") >= NUM_FREE // 2)
            below = psutil.Process(driver.pid).children(recursive=True)
            held_by = holder(tmp_path / "run")
        finally:
            driver.kill()
    left = left_of(below, within_s=_PATIENCE_S)
    is_free, safe = holder(tmp_path / "run") is None, num_safe(tmp_path / "run")
    (tmp_path / "go").touch()
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)

    assert held_by.pid == driver.pid
    assert len(below) >= 2
    assert (left, is_free) == ([], True)
    assert NUM_FREE // 2 <= safe < _NUM_RECORDS
    assert (again.stdout.split(), again.returncode) == (["2", "30", "30"], 0), again.stderr
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").open()]
    assert [(row["n"], row["double"]) for row in written] == [(n, 2 * n) for n in range(30)]
