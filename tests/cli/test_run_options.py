"""What holds when a run goes on: what was said when it began, and what is said now."""

from __future__ import annotations

from sage_dask.cli.run_options import overridden, to_keep
from sage_dask.spec import Roots

SILENT = {
    "nodes": None,
    "threads": None,
    "resources": (),
    "gates": (),
    "scheduler": None,
    "reconnect": None,
    "ordered": None,
    "max_errors": None,
    "retry_failed": None,
    "accept_changes": (),
    "extend": None,
}


def test_only_what_was_said_is_kept(tmp_path):
    """Silence is not kept, so that the file has its say; nor is what one start may do."""
    said = {"nodes": 2, "ordered": False, "max_errors": 0, "extend": True, "retry_failed": True}

    kept = to_keep({**SILENT, **said, "accept_changes": ("map",)}, Roots([tmp_path]))

    assert kept == {"nodes": 2, "ordered": False, "max_errors": 0, "roots": [str(tmp_path)]}


def test_silence_changes_nothing():
    """What was said before holds as long as nothing else is said."""
    kept = {"nodes": 2, "threads": 3, "ordered": False}

    assert overridden(kept, SILENT) == {**SILENT, **kept}


def test_what_is_said_now_counts():
    """An option of now takes the place of the same option, and of no other."""
    kept = {"nodes": 2, "threads": 3}

    assert overridden(kept, {**SILENT, "nodes": 8, "extend": True}) == {
        **SILENT,
        "nodes": 8,
        "threads": 3,
        "extend": True,
    }


def test_a_cluster_and_nodes_take_each_others_place():
    """A run that had the one can go on with the other, which would else be refused."""
    nodes = {"nodes": 2, "threads": 3, "resources": [["LLM", 1.0]]}
    cluster = {"scheduler": "tcp://head:8786", "reconnect": True}

    assert overridden(nodes, {**SILENT, **cluster}) == {**SILENT, **cluster}
    assert overridden(cluster, {**SILENT, "nodes": 4}) == {**SILENT, "nodes": 4}
