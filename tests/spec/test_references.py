"""Names of functions and classes, and how modules beside a file travel."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import cloudpickle
import pytest

from sage_dask import Pipeline
from sage_dask.errors import SpecError
from sage_dask.spec.references import is_reference, reference_to, resolve


def test_reference_has_module_and_name():
    """Both sides may be dotted, and nothing else is a reference."""
    assert is_reference("a.b:C.d")
    assert not any(map(is_reference, ["a", "a:", ":b", "a:b:c", "a b:c", "a..b:c", "a:b()", "1:b"]))


def test_names_go_there_and_back():
    """A function and a method of a class are found under the names they are given."""
    assert resolve(reference_to(copy.deepcopy), None) is copy.deepcopy
    assert reference_to(Pipeline.source) == "sage_dask.pipeline:Pipeline.source"
    assert resolve("sage_dask.pipeline:Pipeline.source", None) is Pipeline.source


def test_the_search_path_is_restored(tmp_path):
    """The folder is searched while a reference is resolved, and not afterwards."""
    (tmp_path / "path_probe.py").write_text("import sys\nseen = list(sys.path)\n")
    before = list(sys.path)

    seen = resolve("path_probe:seen", tmp_path)

    assert seen[0] == str(tmp_path)
    assert sys.path == before


def test_the_search_path_is_restored_after_a_fault(tmp_path):
    """A module that raises, or exits, leaves the path as it was and gives one error."""
    (tmp_path / "raising_probe.py").write_text("raise SystemExit(3)\n")
    before = list(sys.path)

    with pytest.raises(SpecError, match=r"importing 'raising_probe' failed .*SystemExit: 3"):
        resolve("raising_probe:f", tmp_path)

    assert sys.path == before


def test_neighbours_travel_by_value(tmp_path):
    """A process without the folder can run a function from it, its own imports included."""
    (tmp_path / "traveller.py").write_text("import luggage\ndef f(x):\n    return luggage.g(x)\n")
    (tmp_path / "luggage.py").write_text("def g(x):\n    return x + 1\n")
    pickled = cloudpickle.dumps(resolve("traveller:f", tmp_path))

    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer)(41))"
    ran = subprocess.run([sys.executable, "-c", code], input=pickled, capture_output=True)

    assert ran.stdout == b"42\n", ran.stderr


def test_installed_modules_travel_by_name(tmp_path):
    """What is found on Python's own path is pickled as its name."""
    function = resolve("copy:deepcopy", tmp_path)

    assert len(cloudpickle.dumps(function)) < 100


def test_this_package_travels_by_name():
    """A file in a checkout of sage_dask does not make the package travel by value."""
    root = Path(__file__).parents[2]

    function = resolve("sage_dask.experiments.retrieval_quality:checked", root)

    assert len(cloudpickle.dumps(function)) < 200


def test_a_namesake_is_refused(tmp_path):
    """A module that is hidden by one already imported is not mistaken for it."""
    (tmp_path / "copy.py").write_text("def deepcopy(x):\n    return 1\n")

    with pytest.raises(SpecError, match=r"'copy' was already imported from .*rename it"):
        resolve("copy:deepcopy", tmp_path)


def test_a_missing_name_suggests_the_closest():
    """A name that a module or class lacks is refused by where it was looked for."""
    with pytest.raises(SpecError, match=r"'copy' has no 'deepcopi'; did you mean 'deepcopy'"):
        resolve("copy:deepcopi", None)
    with pytest.raises(SpecError, match=r"'copy\.Error' has no 'ad'"):
        resolve("copy:Error.ad", None)
