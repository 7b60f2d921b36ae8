"""Optional dependencies, imported late and missed politely."""

from __future__ import annotations

import importlib
from typing import Any

from sage_dask.errors import MissingDependencyError


def require(module: str, *, extra: str, needed_by: str) -> Any:
    """Import an optional module, or say which extra brings it.

    Args:
        module: Dotted name, as for ``import``.
        extra: The extra of this package that installs it, such as ``"rag"``.
        needed_by: What asked for it, as the user wrote it.

    Raises:
        MissingDependencyError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != root:
            raise
        raise MissingDependencyError(
            f"{needed_by} needs the package {root!r}, which is not installed; "
            f"install it with: pip install 'sage-dask[{extra}]'"
        ) from error
