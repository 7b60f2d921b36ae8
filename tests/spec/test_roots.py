"""Paths under roots: what is admitted, what leads out, and what the pipeline is given."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.operators.files.companion import failed_path
from sage_dask.operators.files.life import partial_path
from sage_dask.spec import Roots

OUT = "lies under none of the roots"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Lend a current folder that holds ``root`` with a file and a folder, and ``secret`` beside."""
    monkeypatch.chdir(tmp_path)
    Path("root/docs/deep").mkdir(parents=True)
    Path("root/in.jsonl").write_text("{}\n")
    Path("root/docs/a.txt").write_text("a")
    Path("secret").mkdir()
    Path("secret/key.txt").write_text("key")
    return tmp_path


@pytest.mark.parametrize("path", ["root/in.jsonl", "root/docs", "root/../root/docs/a.txt", "root"])
def test_what_lies_under_a_root_is_given_resolved(place, path):
    """The pipeline gets the place itself, so that no other current folder changes it."""
    assert Roots(["root"]).readable(path) == str(place.joinpath(path).resolve())
    assert Roots(["secret", place / "root"]).readable(path).startswith(str(place / "root"))


@pytest.mark.parametrize(
    "path",
    [
        "secret/key.txt",
        "root/../secret/key.txt",
        "root/docs/../../secret",
        "root/missing/../../secret/key.txt",
        "rootless",
        "/etc/passwd",
        "",
        ".",
        "/dev/stdin",
        "/proc/self/environ",
        "root/docs/*/../../../secret/*",
        "secret/*.txt",
        "*/key.txt",
    ],
)
def test_what_leads_out_is_refused(place, path):
    """Parents, absolute paths and patterns are judged by where they lead."""
    with pytest.raises(PlanError, match=OUT):
        Roots(["root"]).readable(path)


def test_a_refusal_names_path_place_and_roots(place):
    """Who reads the message knows what was asked for, what it is, and what would be allowed."""
    with pytest.raises(PlanError) as caught:
        Roots(["root", "root/docs"]).readable("root/../secret/key.txt")

    assert str(caught.value) == (
        f"'root/../secret/key.txt' leads to '{place}/secret/key.txt', which lies under none of "
        f"the roots ('{place}/root', '{place}/root/docs'); move it there, or make its folder a "
        "root with --root"
    )


def test_links_count_by_where_they_lead(place):
    """A link out is refused as file, folder and parent; one that stays inside is followed."""
    Path("root/key.txt").symlink_to("../secret/key.txt")
    Path("root/beside").symlink_to("../secret")
    Path("root/alias").symlink_to("docs")
    roots = Roots(["root"])

    for path in ("root/key.txt", "root/beside", "root/beside/key.txt", "root/beside/new.txt"):
        with pytest.raises(PlanError, match=OUT):
            roots.readable(path)
        with pytest.raises(PlanError, match=OUT):
            roots.writable(path)
    assert roots.readable("root/alias/a.txt") == str(place / "root/docs/a.txt")


def test_a_root_may_be_a_link(place):
    """Roots are resolved as paths are."""
    Path("shortcut").symlink_to("root")

    assert Roots(["shortcut"]).readable("root/in.jsonl") == str(place / "root/in.jsonl")


@pytest.mark.parametrize("link", ["root/docs/deep/out.txt", "root/docs/deep/out"])
def test_links_in_a_folder_are_found(place, link):
    """A folder is admitted only if nothing below it leads out, however deep."""
    roots = Roots(["root"])
    assert roots.readable("root/docs") == str(place / "root/docs")

    Path(link).symlink_to(place / "secret" / ("key.txt" if link.endswith("txt") else ""))

    with pytest.raises(PlanError, match=rf"root/docs holds {place}/{link}.*{OUT}"):
        roots.readable("root/docs")


def test_links_behind_links_are_found(place):
    """A link to a folder under the roots does not hide what lies in that one; circles end."""
    Path("root/inner").mkdir()
    Path("root/inner/circle").symlink_to("..")
    Path("root/docs/more").symlink_to("../inner")
    roots = Roots(["root"])
    assert roots.readable("root/docs") == str(place / "root/docs")

    Path("root/inner/out").symlink_to("../../secret/key.txt")

    with pytest.raises(PlanError, match=OUT):
        roots.readable("root/docs")


def test_patterns_are_judged_by_what_they_match(place):
    """A pattern is admitted while all that it matches lies under the roots."""
    roots = Roots(["root"])
    assert roots.readable("root/docs/**/*.txt") == f"{place}/root/docs/**/*.txt"

    Path("root/docs/link").symlink_to("../../secret")
    assert roots.readable("root/docs/*.txt") == f"{place}/root/docs/*.txt"

    with pytest.raises(PlanError, match=OUT):
        roots.readable("root/docs/*/*.txt")


def test_a_root_with_pattern_signs_opens_no_other_folder(place, monkeypatch):
    """``[x]`` in a root's name matches the folder ``x``, which is none of the roots."""
    Path("[x]").mkdir()
    Path("x").mkdir()
    Path("[x]/here.txt").write_text("")
    Path("x/gone.txt").write_text("")
    roots = Roots(["[x]"])

    assert roots.readable("[x]/here.txt") == str(place / "[x]/here.txt")
    for missing in ("[x]/*.txt", "[x]/gone.txt"):
        with pytest.raises(PlanError, match=OUT):
            roots.readable(missing)
    monkeypatch.chdir("[x]")
    with pytest.raises(PlanError, match=OUT):
        roots.readable("gone.txt")


@pytest.mark.parametrize(
    "name",
    [
        "out.jsonl",
        partial_path(Path("out.jsonl")).name,
        failed_path(Path("out.jsonl")).name,
        partial_path(failed_path(Path("out.jsonl"))).name,
        "out.jsonl-wal",
        "out.jsonl.lock",
    ],
)
def test_companions_of_what_is_written_may_not_lead_out(place, name):
    """What stands beside an output while it is written is opened as well."""
    roots = Roots(["root"])
    assert roots.writable("root/out.jsonl") == str(place / "root/out.jsonl")

    Path("root", name).symlink_to("../secret/new.txt")

    with pytest.raises(PlanError, match=OUT):
        roots.writable("root/out.jsonl")


def test_a_root_itself_is_not_written(place):
    """Its companions would stand beside it, which is outside."""
    with pytest.raises(PlanError, match=r"is the root .* itself; name something in it"):
        Roots(["root"]).writable("root")

    assert Roots([place, "root"]).writable("root") == str(place / "root")


def test_a_folder_to_be_written_holds_no_link_out(place):
    """A link that waits in a run folder would be written through."""
    Path("root/run").mkdir()
    Path("root/run/events.jsonl").symlink_to("../../secret/new.txt")

    with pytest.raises(PlanError, match=OUT):
        Roots(["root"]).writable("root/run")


def test_models_are_folders_under_roots(place):
    """The packaged model has no path, and nothing is downloaded."""
    roots = Roots(["root"])

    assert roots.model("minilm") == "minilm"
    assert roots.model("root/docs") == str(place / "root/docs")
    with pytest.raises(PlanError, match=OUT):
        roots.model("sentence-transformers/all-MiniLM-L6-v2")
    with pytest.raises(PlanError, match=r"is no folder .* none is downloaded"):
        roots.model("root/all-MiniLM-L6-v2")


@pytest.mark.parametrize("path", ["~/key", "~root/key", "a\0b", "root/loop", "root/" + 300 * "a"])
def test_what_can_not_be_resolved_is_refused(place, path):
    """Home folders, loops of links and impossible names are plan errors, not tracebacks."""
    Path("root/loop").symlink_to("loop")

    with pytest.raises(PlanError):
        Roots(["root"]).readable(path)


@pytest.mark.parametrize("folders", [[], ["no-such"], ["root/in.jsonl"], ["root", "~"]])
def test_roots_are_folders_that_are_there(place, folders):
    """A misspelt root is found before it refuses everything."""
    with pytest.raises(PlanError):
        Roots(folders)


parts = st.lists(
    st.sampled_from([".", "..", "a", "b", "in", "out", "loop", "root", "secret", "*", ""]),
    max_size=6,
)


@pytest.fixture(scope="module")
def maze(tmp_path_factory):
    """Lend a tree whose links go up, down, in circles and out of ``root``."""
    top = tmp_path_factory.mktemp("maze")
    (top / "root/a/b").mkdir(parents=True)
    (top / "secret/a").mkdir(parents=True)
    for place, target in [
        ("root/out", "../secret"),
        ("root/a/in", "../a/b"),
        ("root/a/b/out", "../../.."),
        ("secret/a/in", "../../root"),
        ("root/a/loop", "loop"),
    ]:
        (top / place).symlink_to(target)
    return top


@settings(max_examples=400, deadline=None)
@given(parts=parts)
def test_no_path_gets_out(maze, parts):
    """Whatever is admitted is, for the system too, a place under the root."""
    roots, path = Roots([maze / "root"]), f"{maze}/{'/'.join(parts)}"

    for admit in (roots.readable, roots.writable):
        try:
            found = admit(path)
        except PlanError:
            continue
        real = os.path.realpath(found)
        assert real == found
        assert os.path.commonpath([real, maze / "root"]) == str(maze / "root")
