"""Where an index is built, and how it takes its name.

An index is built in ``NAME.building-*`` beside its final place.  Whoever looks
for ``NAME`` finds a whole index or none.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from sage_dask.disk import sync_folder
from sage_dask.errors import SinkError
from sage_dask.operators.files.life import writing
from sage_dask.operators.retrieval.manifest import MANIFEST


def building_folder(path: Path) -> Path:
    """Make a new folder in which the index ``path`` can be built."""
    with writing(path):
        return Path(tempfile.mkdtemp(prefix=f"{path.name}.building-", dir=path.parent))


def check_index_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a name that is taken, or a parent that is missing.

    Raises:
        SinkError: The message says which.
    """
    if not path.parent.is_dir():
        raise SinkError(f"index {str(path)!r}: folder {str(path.parent)!r} is missing; create it")
    if not path.exists():
        return
    if not overwrite:
        raise SinkError(
            f"index {str(path)!r} exists already; pass overwrite=True to replace it, "
            "or choose another path"
        )
    if not (path / MANIFEST).is_file():
        raise SinkError(
            f"{str(path)!r} exists and is no index (it holds no {MANIFEST}), so it is not "
            "replaced; choose another path"
        )


def publish_index(folder: Path, path: Path) -> None:
    """Make a finished folder durable and give it its name; an older index makes way first.

    Between the two renames of a replacement neither has the name, for some microseconds.

    Raises:
        OSError: The rename failed; an older index has its name again.
    """
    # mkdtemp closes the folder to others, but workers of other users may read an index.
    folder.chmod(0o755)
    for item in (*folder.rglob("*"), folder):
        sync = _sync_file if item.is_file() else sync_folder
        sync(item)
    retired = Path(f"{folder}.old")
    if path.exists():
        path.rename(retired)
    try:
        folder.rename(path)
    except OSError:
        if retired.exists():
            retired.rename(path)
        raise
    sync_folder(path.parent)
    shutil.rmtree(retired, ignore_errors=True)


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
