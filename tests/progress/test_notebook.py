"""The table in a notebook."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from sage_dask.progress import LiveProgress, show_progress
from sage_dask.progress.choosing import is_notebook
from tests.progress.building import progress_of, report_of


class FakeHandle:
    """The output of a cell."""

    def __init__(self, data):
        self.shown = [data]

    def update(self, data, *, raw):
        """Replace it."""
        assert raw
        self.shown.append(data)


@pytest.fixture
def notebook(monkeypatch):
    """Lend the outputs of a notebook's cell, in a process that takes itself for its kernel."""
    outputs = []

    def display(data, *, raw, display_id):
        assert raw
        assert display_id
        outputs.append(FakeHandle(data))
        return outputs[-1]

    fake, fake_display = ModuleType("IPython"), ModuleType("IPython.display")
    fake.get_ipython = lambda: SimpleNamespace(kernel=object())
    fake_display.display = display
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", fake_display)
    return outputs


def test_a_run_has_one_output_that_is_replaced(notebook):
    """As text and as HTML; words that would be markup there are text."""
    observer = show_progress()

    observer(progress_of(1, pipeline="<b>rag</b>"))
    observer(progress_of(2, pipeline="<b>rag</b>", report=report_of("done")))

    assert isinstance(observer, LiveProgress)
    assert len(notebook) == 1
    last = notebook[0].shown[-1]
    assert "<b>rag</b>" in last["text/plain"]
    assert "done" in last["text/plain"]
    assert "&lt;b&gt;rag&lt;/b&gt;" in last["text/html"]


def test_a_table_that_is_as_it_was_is_not_sent_again(notebook):
    """A notebook keeps all that it is sent."""
    observer = show_progress()

    observer(progress_of(1, report=report_of("done")))
    observer(progress_of(1, report=report_of("done")))

    assert [len({str(each) for each in output.shown}) for output in notebook] == [2, 2]
    assert [len(output.shown) for output in notebook] == [2, 2]


def test_the_ipython_of_a_terminal_is_no_notebook(notebook, monkeypatch):
    """It shows what terminals show; nor is a program that never heard of IPython."""
    with_kernel = is_notebook()
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: SimpleNamespace())
    without_kernel = is_notebook()
    monkeypatch.delitem(sys.modules, "IPython")

    assert (with_kernel, without_kernel, is_notebook()) == (True, False, False)
