"""``sage-dask resume``: go on with a run that was begun on the command line."""

from __future__ import annotations

import shlex
from contextlib import chdir
from pathlib import Path
from typing import Any

import click

from sage_dask.cli import exits
from sage_dask.cli.examples import example
from sage_dask.cli.executing import Request, execute, launch_of
from sage_dask.cli.output import note
from sage_dask.cli.roots import pipeline_within, root_option
from sage_dask.cli.run_options import overridden, run_options, to_keep
from sage_dask.durable.run_status import read_launch, require_journal
from sage_dask.errors import PlanError
from sage_dask.launch import Launch
from sage_dask.spec import Roots


@click.command(
    epilog=example(
        "sage-dask resume runs/rag",
        "sage-dask resume runs/rag --retry-failed --nodes 8",
        "sage-dask resume runs/rag --accept-changes prompt",
    )
    + exits.HELP
)
@click.argument("run_dir", metavar="DIR")
@run_options
@root_option
def resume(run_dir: str, roots: Roots | None, as_json: bool, quiet: bool, **given: Any) -> None:
    """Go on with the run in DIR: the same pipeline, from the same folder, with the same options.

    Options that are given now hold in place of those that were given before.  A run that is done
    stays as it is; its output is written again if it is not there.
    """
    with exits.nothing_spent():
        require_journal(Path(run_dir))
    launch = _launch(run_dir)
    folder = Path(launch.folder)
    if not folder.is_dir():
        raise PlanError(
            f"the run in {run_dir!r} was begun in {launch.folder!r}, which is not there; go to "
            f"where its files are now, and say: sage-dask run {shlex.quote(launch.pipeline)} "
            f"--run-dir {shlex.quote(run_dir)}"
        )
    asked = overridden(launch.options, given)
    kept = Roots(asked.pop("roots")) if asked.get("roots") else None
    roots = roots or kept
    note(f"going on in {launch.folder} with: {launch.pipeline}", quiet=quiet)
    path = Path(run_dir).absolute()
    options = to_keep(asked, roots)
    again = launch_of(launch.pipeline, run_dir, options, folder=folder)
    with chdir(folder):
        spec = pipeline_within(roots, launch.pipeline)
        execute(Request(spec, asked, path, launch=again, quiet=quiet), as_json=as_json)


def _launch(run_dir: str) -> Launch:
    launch = read_launch(Path(run_dir))
    if launch is None:
        raise PlanError(
            f"the run in {run_dir!r} was begun by a program, not with sage-dask run; run that "
            f"program again, with run_dir={run_dir!r}"
        )
    return launch
