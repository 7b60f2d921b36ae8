"""``sage-dask top``: what it prints where nothing can be drawn in place."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from sage_dask.dashboard.board import Board
from sage_dask.dashboard.snapshot import NodeLoad, Snapshot
from sage_dask.standing import Progress


def fake_snapshot_of(client):
    """Return a cluster of one node and one job."""
    board = Board()
    board.hear("rag/1f", client, Progress("rag", 5, 5, 0, 0, 10, 2.0), 1.0)
    nodes = [NodeLoad("node-0", 1, 4, None, None, 0)]
    return Snapshot(1.0, board.jobs(1.0), None, nodes, (), False)


@pytest.mark.parametrize("options", [(), ("--once",)])
def test_without_a_terminal_the_table_is_printed_once(cli, monkeypatch, options):
    """On standard output, without colours, of the scheduler that was named."""
    asked = []

    def client_of(scheduler):
        asked.append(scheduler)
        return nullcontext("a client")

    monkeypatch.setattr("sage_dask.dask_runner.client_of", client_of)
    monkeypatch.setattr("sage_dask.dashboard.asking.snapshot_of", fake_snapshot_of)

    result = cli("top", "--scheduler", "tcp://head:8786", *options)

    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "1 node with 4 threads, Dask places all tasks"
    assert "5 of 10" in lines[2]
    assert asked == ["tcp://head:8786"]
