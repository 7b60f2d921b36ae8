"""Folders under which everything lies that a specification may read or write.

A file that comes from someone else names paths, and they are opened with the
rights of whoever runs it.  With roots each path is resolved first, links and
all; what leads out of them is refused, and the resolved path is what the
pipeline is given, so that no other folder, current directory or machine can
make it mean something else.

The promise is about paths as they are when the file is read.  Whoever can write
under a root while a run goes on can put a link there and lead it out.  Code is
not held by roots, so a file that names any is refused with them; neither are
the servers that it asks, or the environment variables that it names for keys.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

from sage_dask.errors import PlanError
from sage_dask.operators.models import MINILM


class Roots:
    """Folders that a specification may touch.

    Args:
        folders: At least one; each is there.

    Raises:
        PlanError: There is none, or one is no folder.
    """

    def __init__(self, folders: Iterable[str | os.PathLike[str]]) -> None:
        self.folders = tuple(_root(os.fspath(folder)) for folder in folders)
        if not self.folders:
            raise PlanError("roots without a folder would refuse every path; name one")

    def readable(self, path: str) -> str:
        """Return where a file, a folder or a pattern to be read lies.

        Links in a folder, and files that a pattern matches, are looked at too.

        Raises:
            PlanError: Something of it lies under none of the roots.
        """
        found = _resolved(path)
        with _looking_at(path):
            # A pattern is what ReadText would take for one.
            if glob.has_magic(str(found)) and not found.exists():
                self._admit_matches(path, found)
            else:
                self._admit(path, found)
                self._admit_links(path, found)
        return str(found)

    def writable(self, path: str) -> str:
        """Return where a file or a folder to be written lies.

        Whatever is written stands beside it under a longer name until it is whole, so its
        folder must lie under a root too, and no such name may be a link that leads out.

        Raises:
            PlanError: Something of it would lie under none of the roots.
        """
        found = _resolved(path)
        self._admit(path, found)
        if not self._holds(found.parent):
            raise PlanError(f"{path!r} is the root {str(found)!r} itself; name something in it")
        with _looking_at(path):
            for beside in found.parent.glob(f"{glob.escape(found.name)}*"):
                if beside.is_symlink():
                    self._admit(str(beside), _resolved(str(beside)))
            self._admit_links(path, found)
        return str(found)

    def model(self, name: str) -> str:
        """Return where a model lies; the one that comes with the package has no path.

        Raises:
            PlanError: It lies under none of the roots, or would have to be downloaded.
        """
        if name == MINILM:
            return name
        found = self.readable(name)
        if not Path(found).is_dir():
            raise PlanError(
                f"model {name!r} is no folder ({found!r}), and with roots none is downloaded; "
                f"name its folder, or use {MINILM!r}"
            )
        return found

    def _holds(self, found: Path) -> bool:
        return any(found.is_relative_to(folder) for folder in self.folders)

    def _admit(self, path: str, found: Path) -> None:
        if not self._holds(found):
            roots = ", ".join(repr(str(folder)) for folder in self.folders)
            raise PlanError(
                f"{path!r} leads to {str(found)!r}, which lies under none of the roots ({roots}); "
                "move it there, or make its folder a root with --root"
            )

    def _admit_links(self, path: str, found: Path) -> None:
        self._admit_all(path, _links_below(found))

    def _admit_matches(self, path: str, pattern: Path) -> None:
        """Admit a pattern that is absolute: the folder it begins at, and what it matches now."""
        fixed = Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))
        self._admit(path, fixed)
        self._admit_all(path, fixed.glob(str(pattern.relative_to(fixed))))

    def _admit_all(self, path: str, entries: Iterable[Path]) -> None:
        for entry in entries:
            if not self._holds(found := _resolved(str(entry))):
                self._admit(f"{path} holds {entry}", found)

    def __repr__(self) -> str:
        return f"<Roots {', '.join(map(str, self.folders))}>"


def _root(folder: str) -> Path:
    found = _resolved(folder)
    if not found.is_dir():
        raise PlanError(
            f"root {folder!r} is no folder ({str(found)!r}); make it, or check the path"
        )
    return found


def _resolved(path: str) -> Path:
    if path.startswith("~"):
        raise PlanError(f"{path!r} begins with '~', which is not expanded here; write it out")
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links, or a character that no path has.
        raise PlanError(f"{path!r} can not be resolved ({error}); name another path") from error


@contextmanager
def _looking_at(path: str) -> Iterator[None]:
    """Turn a refusal of the system to look into ``PlanError``: unseen is not admitted."""
    try:
        yield
    except OSError as error:
        raise PlanError(f"{path!r} can not be looked through ({error}); mend that first") from error


def _links_below(folder: Path) -> Iterator[Path]:
    """Yield the links in a folder and in the folders that they lead to; none for a file."""
    pending = [folder] if folder.is_dir() else []
    seen = set(pending)
    while pending:
        for entry in pending.pop().iterdir():
            if entry.is_symlink():
                # Who is given an entry that leads out stops here, so nothing else is walked.
                yield entry
            if entry.is_dir() and (found := entry.resolve()) not in seen:
                seen.add(found)
                pending.append(found)
