"""The command line: ``sage-dask``, and ``dask sage`` beside Dask's own commands.

A command is one module; it imports what it needs when it is called, so that
``--help`` answers at once.
"""

from __future__ import annotations

import click

from sage_dask import __version__
from sage_dask.cli.examples import example
from sage_dask.cli.group import CommandGroup

# Under this name Dask's command line knows the group.
_NAME = "sage"

_COMMANDS = {
    "run": "sage_dask.cli.run:run",
    "resume": "sage_dask.cli.resume:resume",
    "status": "sage_dask.cli.status:status",
    "plan": "sage_dask.cli.plan:plan",
    "report": "sage_dask.cli.report:report",
    "jobs": "sage_dask.cli.jobs:jobs",
    "spans": "sage_dask.cli.spans:spans",
    "policy": "sage_dask.cli.policy:policy",
    "why": "sage_dask.cli.why:why",
    "doctor": "sage_dask.cli.doctor:doctor",
    "grafana": "sage_dask.cli.grafana:grafana",
    "index": "sage_dask.cli.index:index",
    "eval": "sage_dask.cli.evaluate:evaluate",
    "serve": "sage_dask.cli.serve:serve",
    "cache": "sage_dask.cli.cache:cache",
    "demo": "sage_dask.cli.demo:demo",
}


_EXAMPLES = example(
    "sage-dask plan rag.yaml",
    "sage-dask run rag.yaml --nodes 4 --run-dir runs/rag",
    "sage-dask status runs/rag",
)


@click.group(
    name=_NAME,
    cls=CommandGroup,
    commands_by_word=_COMMANDS,
    epilog=_EXAMPLES + "Each command explains itself: sage-dask run --help.",
)
@click.version_option(__version__, prog_name="sage-dask")
@click.option(
    "--traceback",
    is_flag=True,
    envvar="SAGE_TRACEBACK",
    help="Show where in the code an error was raised, too.",
)
def main(traceback: bool) -> None:
    """Declarative dataflow for end-to-end LLM inference, on Dask.

    A pipeline reads records, passes them through stages, and writes them: from a YAML file or
    a Python object, in this process or on many nodes.
    """
