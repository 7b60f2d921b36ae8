"""The pipeline that a command line names: a YAML file, or a Python object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sage_dask.errors import PlanError
from sage_dask.pipeline import Pipeline
from sage_dask.spec import Spec, read
from sage_dask.spec.references import is_reference, resolve

_YAML = (".yaml", ".yml")


def find_pipeline(target: str) -> Spec:
    """Return what ``rag.yaml``, ``module:name`` or ``file.py:name`` stands for.

    A name may be that of a pipeline, or of a function that returns one.

    Raises:
        PlanError: There is nothing of that name, or it is no pipeline.
    """
    if target.endswith(_YAML):
        return read(target)
    place, colon, name = target.rpartition(":")
    if not colon:
        raise PlanError(
            f"{target!r} does not name a pipeline; give a YAML file (rag.yaml), "
            "an object of a module (my_module:rag) or of a file (rag.py:rag)"
        )
    found = _in_file(Path(place), name) if place.endswith(".py") else resolve(target, Path.cwd())
    return Spec(_pipeline(found, target))


def _in_file(file: Path, name: str) -> Any:
    if not file.is_file():
        raise PlanError(f"pipeline file {str(file)!r} does not exist; check the path")
    reference = f"{file.stem}:{name}"
    if not is_reference(reference):
        raise PlanError(
            f"'{file}:{name}' can not be imported; the file's name and {name!r} must be Python "
            "names, such as rag.py:rag"
        )
    return resolve(reference, file.parent)


def _pipeline(found: Any, target: str) -> Pipeline:
    made = found() if callable(found) else found
    if not isinstance(made, Pipeline):
        what = "returns" if callable(found) else "is"
        raise PlanError(
            f"{target!r} {what} {type(made).__name__}, and a sage_dask.Pipeline is wanted"
        )
    return made
