from __future__ import annotations

import pytest

from sage_dask.errors import SinkError
from sage_dask.operators.retrieval.folder import building_folder, check_index_target, publish_index


def make_index(path, content="{}"):
    path.mkdir(exist_ok=True)
    (path / "manifest.json").write_text(content)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_free_name_is_fine(tmp_path):
    """Nothing is raised, and nothing is made."""
    check_index_target(tmp_path / "i", overwrite=False)

    assert names_in(tmp_path) == []


def test_a_folder_that_is_no_index_is_never_replaced(tmp_path):
    """Even overwrite=True must not delete someone's documents."""
    (tmp_path / "documents").mkdir()

    with pytest.raises(SinkError, match="is no index"):
        check_index_target(tmp_path / "documents", overwrite=True)


def test_an_index_is_replaced_only_when_asked(tmp_path):
    """A name that is taken by an index needs overwrite=True."""
    make_index(tmp_path / "i")

    check_index_target(tmp_path / "i", overwrite=True)
    with pytest.raises(SinkError, match="overwrite=True"):
        check_index_target(tmp_path / "i", overwrite=False)


def test_a_missing_parent_is_refused(tmp_path):
    """The message names the folder to create."""
    with pytest.raises(SinkError, match="nowhere"):
        check_index_target(tmp_path / "nowhere" / "i", overwrite=False)


def test_an_index_is_built_beside_its_place(tmp_path):
    """Renaming is atomic only within one file system, so the folder is a sibling."""
    folder = building_folder(tmp_path / "corpus.index")

    assert folder.parent == tmp_path
    assert folder.name.startswith("corpus.index.building-")


def test_a_finished_folder_takes_the_name(tmp_path):
    """It is all that is left, and others may read it."""
    folder = building_folder(tmp_path / "i")
    make_index(folder)
    (folder / "bm25").mkdir()

    publish_index(folder, tmp_path / "i")

    assert names_in(tmp_path) == ["i"]
    assert names_in(tmp_path / "i") == ["bm25", "manifest.json"]
    assert (tmp_path / "i").stat().st_mode & 0o777 == 0o755


def test_an_older_index_makes_way(tmp_path):
    """The new content has the name, and the old one is gone."""
    make_index(tmp_path / "i", "old")
    folder = building_folder(tmp_path / "i")
    make_index(folder, "new")

    publish_index(folder, tmp_path / "i")

    assert (tmp_path / "i" / "manifest.json").read_text() == "new"
    assert names_in(tmp_path) == ["i"]


def test_an_older_index_stays_if_the_new_one_can_not_be_put(tmp_path, monkeypatch):
    """When the rename fails the old index has its name again."""
    make_index(tmp_path / "i", "old")
    folder = building_folder(tmp_path / "i")
    make_index(folder, "new")
    rename = type(folder).rename

    def refuse_the_new(self, target):
        if self == folder:
            raise PermissionError("refused")
        return rename(self, target)

    monkeypatch.setattr(type(folder), "rename", refuse_the_new)
    with pytest.raises(PermissionError):
        publish_index(folder, tmp_path / "i")

    assert (tmp_path / "i" / "manifest.json").read_text() == "old"
