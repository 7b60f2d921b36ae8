"""The events of a run, wherever it left them."""

from __future__ import annotations

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.durable.run_events import run_events
from sage_dask.errors import PlanError
from sage_dask.report import Report


def run(folder, *, durable):
    """Run a pipeline in a folder, and return its report."""
    pipeline = Pipeline("p").source(FromIterable([{"a": 1}, {"a": 2}])).map(dict).sink(Collect())
    return pipeline.run(run_dir=folder, durable=durable, batch_size=1)


@pytest.mark.parametrize("durable", [True, False])
def test_folder_and_file_tell_what_the_run_returned(tmp_path, durable):
    """A journal, a folder without one, and the file alone give the report of the run itself."""
    ran = run(tmp_path / "r", durable=durable)

    for path in (tmp_path / "r", tmp_path / "r" / "events.jsonl"):
        assert Report.from_events(run_events(path)) == ran


def test_no_events_are_an_error(tmp_path):
    """A place without a file, and a file without an event, are told apart."""
    with pytest.raises(PlanError, match="there are no events at"):
        next(run_events(tmp_path))
    (tmp_path / "events.jsonl").touch()
    with pytest.raises(PlanError, match="holds no event yet"):
        next(run_events(tmp_path))
