from __future__ import annotations

import json

import pytest

from sage_dask.errors import PlanError
from sage_dask.operators.retrieval.manifest import Manifest, file_facts

CONTENT = {"passages.jsonl": b"some lines", "bm25/vocabulary.json": b"{}"}


@pytest.fixture
def folder(tmp_path):
    for name, content in CONTENT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    described(tmp_path).write(tmp_path)
    return tmp_path


def described(folder):
    return Manifest(
        model="fake",
        dimension=8,
        kind="flat",
        num_passages=3,
        num_tokens=None,
        bm25=True,
        files=file_facts(folder),
        made_by="a test",
    )


def test_a_manifest_comes_back_as_written(folder):
    """Reading gives what was written, with every file of the folder and of those in it."""
    manifest = Manifest.read(folder)

    assert set(manifest.files) == set(CONTENT)
    assert manifest.model == "fake"
    assert manifest.num_tokens is None
    manifest.verify(folder)


def test_a_missing_folder_is_refused(tmp_path):
    """The message says that it is missing here, and what builds one."""
    with pytest.raises(PlanError, match=r"does not exist on this machine.*index build"):
        Manifest.read(tmp_path / "nowhere.index")


def test_a_folder_without_manifest_is_refused(tmp_path):
    """Some other folder is no index."""
    with pytest.raises(PlanError, match=r"holds no manifest"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "format version 99"),
        ({"format": "something else"}, "does not describe"),
        ({"files": None}, "damaged"),
        ({"files": {"a": {"bytes": 1}}}, "damaged"),
        ({"unknown": 1}, "damaged"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(folder, change, message):
    """Versions and fields that this code does not know are not guessed at."""
    file = folder / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))

    with pytest.raises(PlanError, match=message):
        Manifest.read(folder)


@pytest.mark.parametrize("content", ['{"format": ', "[]"])
def test_what_is_no_manifest_is_refused(folder, content):
    """Half a manifest, or some other JSON, is an error that names the file."""
    (folder / "manifest.json").write_text(content)

    with pytest.raises(PlanError, match=r"manifest\.json"):
        Manifest.read(folder)


def test_a_missing_file_is_refused(folder):
    """A folder that was copied in part names what is missing."""
    (folder / "passages.jsonl").unlink()

    with pytest.raises(PlanError, match=r"'passages\.jsonl' is missing"):
        Manifest.read(folder)


@pytest.mark.parametrize("content", [b"some line", b"some lines and more"])
def test_a_file_of_another_size_is_refused(folder, content):
    """A copy that broke off, or a file of another build, gives both sizes."""
    (folder / "passages.jsonl").write_bytes(content)

    with pytest.raises(PlanError, match=f"{len(content)} bytes instead of 10"):
        Manifest.read(folder)


def test_verify_finds_one_changed_letter(folder):
    """A change that keeps the size is found by reading the files."""
    (folder / "passages.jsonl").write_bytes(b"same lines")

    with pytest.raises(PlanError, match=r"'passages\.jsonl' has SHA-256"):
        Manifest.read(folder).verify(folder)
