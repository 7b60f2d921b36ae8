"""What an index folder says of itself, and whether its files agree.

Opening checks what is cheap: version, presence and size of every file.
``verify`` reads them all and compares their hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sage_dask.errors import PlanError

MANIFEST = "manifest.json"
FORMAT = "sage-dask passage index"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file of the folder."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index holds and how it was made."""

    model: str
    """Embedding model whose vectors it holds; queries need the same."""
    dimension: int
    kind: str
    num_passages: int
    num_tokens: int | None
    """Stored token vectors; None where there are none."""
    bm25: bool
    files: Mapping[str, FileFacts]
    """By path inside the folder."""
    made_by: str

    def write(self, folder: Path) -> None:
        """Write the manifest into its folder."""
        content = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(self)}
        (folder / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a folder and compare it with the files there.

        Raises:
            PlanError: The folder is missing, no index, of another version or incomplete.
        """
        content = _content(folder)
        try:
            files = {name: FileFacts(**facts) for name, facts in content.pop("files").items()}
            manifest = cls(files=files, **content)
        except (TypeError, KeyError, AttributeError) as error:
            raise PlanError(
                f"index {str(folder)!r}: {MANIFEST} is damaged ({error}); build the index again"
            ) from error
        manifest._check_sizes(folder)
        return manifest

    def _check_sizes(self, folder: Path) -> None:
        for name, facts in self.files.items():
            path = folder / name
            if not path.is_file():
                raise PlanError(
                    f"index {str(folder)!r}: file {name!r} is missing; copy the folder as a whole, "
                    "or build the index again"
                )
            found = path.stat().st_size
            if found != facts.bytes:
                raise PlanError(
                    f"index {str(folder)!r}: file {name!r} has {found:,} bytes instead of "
                    f"{facts.bytes:,}; copy the folder again, or build the index again"
                )

    def told(self) -> str:
        """Return what the index holds, in words that are the same for a copy and no other."""
        listing = sorted((name, facts.sha256) for name, facts in self.files.items())
        digest = hashlib.sha256(json.dumps(listing).encode()).hexdigest()[:12]
        return f"{self.num_passages:,} passages, {digest}"

    def verify(self, folder: Path) -> None:
        """Read every file and compare its hash.

        Raises:
            PlanError: A file's content is not what was written.
        """
        for name, facts in self.files.items():
            found = sha256(folder / name)
            if found != facts.sha256:
                raise PlanError(
                    f"index {str(folder)!r}: file {name!r} has SHA-256 {found[:12]}... instead of "
                    f"{facts.sha256[:12]}...; copy the folder again, or build the index again"
                )


def file_facts(folder: Path) -> dict[str, FileFacts]:
    """Return size and hash of every file in a folder, by its path inside it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileFacts(path.stat().st_size, sha256(path))
        for path in paths
    }


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def maker() -> str:
    """Return the name and version of this package, as it stands in a manifest."""
    try:
        return f"sage-dask {version('sage-dask')}"
    except PackageNotFoundError:
        return "sage-dask, from a checkout that is not installed"


def _content(folder: Path) -> dict[str, Any]:
    """Return the fields of a manifest of this format and version."""
    path = folder / MANIFEST
    if not path.is_file():
        state = f"holds no {MANIFEST}" if folder.is_dir() else "does not exist on this machine"
        raise PlanError(
            f"index {str(folder)!r} {state}; build one with 'sage-dask index build', "
            "or give the path of the folder that it wrote"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PlanError(f"index {str(folder)!r}: {MANIFEST} is not JSON ({error})") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise PlanError(f"{str(path)!r} does not describe a {FORMAT}; give the path of one")
    found = content.pop("version", None)
    if found != FORMAT_VERSION:
        raise PlanError(
            f"index {str(folder)!r} has format version {found}, this sage_dask reads "
            f"{FORMAT_VERSION}; build the index again"
        )
    return content
