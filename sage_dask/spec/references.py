"""Functions and classes by name: ``module:name`` to the object, and back.

A module that lies beside the specification is found there first, as a script's
neighbours are.  Workers on other machines do not have that folder, so what is
imported from it travels with the tasks by value; everything else travels by
name and must be installed where the workers are.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from sage_dask.errors import SpecError, did_you_mean

_REFERENCE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*(?:\.[^\W\d]\w*)*\Z")

# By name even where the specification lies in a checkout of sage_dask: workers have it.
_ALWAYS_BY_NAME = __name__.partition(".")[0]


def is_reference(text: str) -> bool:
    """Tell whether a text has the form ``module:name``, both possibly dotted."""
    return _REFERENCE.match(text) is not None


def resolve(reference: str, folder: Path | None) -> Any:
    """Import a module and return what it calls ``name``.

    Args:
        reference: ``module:name``.
        folder: Searched before Python's own path; its modules travel by value.

    Raises:
        SpecError: There is no such module or name, or importing it raised.
    """
    if not is_reference(reference):
        raise SpecError(
            f"{reference!r} does not name anything; write 'module:name', such as 'my_module:clean'"
        )
    module_name, _, path = reference.partition(":")
    module = _import(module_name, reference, folder)
    value: Any = module
    found = module_name
    for name in path.split("."):
        if not hasattr(value, name):
            raise SpecError(
                f"{reference!r}: {found!r} has no {name!r}"
                f"{did_you_mean(name, dir(value))}; check the spelling"
            )
        value, found = getattr(value, name), f"{found}.{name}"
    return value


def reference_to(value: Any) -> str:
    """Return the ``module:name`` under which ``resolve`` finds a function or a class.

    Raises:
        SpecError: It has no such name: a lambda, a closure, or something of a script.
    """
    module, path = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if module is None or path is None:
        raise SpecError(f"{value!r} has no name to be imported by; use a function of a module")
    if "<" in path:
        kind = "a lambda" if path.endswith("<lambda>") else "defined inside a function"
        raise SpecError(f"{path!r} is {kind}, so it can not be imported; move it to a module")
    if module == "__main__":
        raise SpecError(f"{path!r} belongs to the running script; move it to a module of its own")
    reference = f"{module}:{path}"
    if resolve(reference, None) is not value:
        raise SpecError(f"{reference!r} is another object by now; give the one that is found there")
    return reference


def _import(name: str, reference: str, folder: Path | None) -> ModuleType:
    root = name.partition(".")[0]
    with _first_on_path(folder):
        try:
            module = importlib.import_module(name)
        except (Exception, SystemExit) as error:
            looked = f" (looked in {str(folder)!r} first)" if folder is not None else ""
            raise SpecError(
                f"{reference!r}: importing {name!r} failed{looked}: "
                f"{type(error).__name__}: {error}; mend the module or its name"
            ) from error
    if folder is not None:
        _refuse_namesake(root, reference, folder)
        _send_by_value(folder)
    return module


@contextmanager
def _first_on_path(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    entry = str(folder.resolve())
    # A module that was written a moment ago is not in the finders' caches.
    importlib.invalidate_caches()
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _refuse_namesake(root: str, reference: str, folder: Path) -> None:
    """Refuse a module from elsewhere that hides the one in the folder."""
    in_folder = (folder / f"{root}.py").is_file() or (folder / root / "__init__.py").is_file()
    module = sys.modules[root]
    if in_folder and not _lies_in(module, folder):
        raise SpecError(
            f"{reference!r}: {root!r} was already imported from {module.__file__!r}, so the one in "
            f"{str(folder)!r} is out of reach; rename it"
        )


def _send_by_value(folder: Path) -> None:
    """Let everything that was imported from the folder travel with the tasks."""
    for name, module in list(sys.modules.items()):
        is_root = "." not in name and name not in ("__main__", _ALWAYS_BY_NAME)
        if is_root and _lies_in(module, folder):
            cloudpickle.register_pickle_by_value(module)


def _lies_in(module: ModuleType, folder: Path) -> bool:
    """Tell whether a top-level module or package stands directly in a folder."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    path = Path(file)
    home = path.parent.parent if path.name == "__init__.py" else path.parent
    return home.resolve() == folder.resolve()
