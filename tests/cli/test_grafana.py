"""``sage-dask grafana`` prints what Grafana imports."""

from __future__ import annotations

import json

from click.testing import CliRunner

from sage_dask.cli import main


def test_the_dashboard_is_printed_as_json():
    """All of stdout is one JSON document with a title and panels."""
    result = CliRunner().invoke(main, ["grafana"])

    assert result.exit_code == 0, result.output
    printed = json.loads(result.stdout)
    assert printed["title"] == "sage_dask"
    assert printed["panels"]
