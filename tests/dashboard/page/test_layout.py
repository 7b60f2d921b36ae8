"""A page sends what changed and nothing else, and stays small."""

from __future__ import annotations

import pytest
from bokeh.document import Document
from bokeh.document.events import ColumnDataChangedEvent, ColumnsStreamedEvent
from bokeh.events import ButtonClick
from bokeh.models import Button, ColumnDataSource, Div, Select

from sage_dask.dashboard.board import MOST_POINTS
from sage_dask.dashboard.page.layout import Page
from sage_dask.dashboard.page.steering import Steering
from tests.dashboard.fake_monitor import FakeMonitor


class Browser:
    """A page as its document, with what would be sent to the browser."""

    def __init__(self, monitor: FakeMonitor) -> None:
        self.monitor = monitor
        steering = Steering(monitor.snapshot, lambda: monitor.actions)
        self.page = Page(monitor.snapshot, steering, "tcp://127.0.0.1:8786")
        self.document = Document()
        self.document.add_root(self.page.root)
        self.sent: list[object] = []
        self.document.on_change(self.sent.append)

    def all(self, kind):
        """Return the models of a kind."""
        return list(self.document.select({"type": kind}))

    def button(self, *labels: str) -> Button:
        """Return a button by what stands on it."""
        return next(button for button in self.all(Button) if button.label in labels)

    def press(self, *labels: str) -> None:
        """Do what arrives when somebody, or a forger, presses a button."""
        button = self.button(*labels)
        self.document.callbacks.trigger_event(ButtonClick(button))

    def select(self, title: str) -> Select:
        """Return a list by its title."""
        return next(each for each in self.all(Select) if each.title == title)

    def is_shown(self, model) -> bool:
        """Return whether a model is visible with all that it stands in."""
        parents = [each for each in self.all(object) if model in getattr(each, "children", ())]
        return model.visible and all(map(self.is_shown, parents))

    @property
    def text(self) -> str:
        """All panels' content."""
        return "".join(div.text for div in self.all(Div) if self.is_shown(div))


@pytest.mark.parametrize("num_jobs", [0, 1, 8])
def test_nothing_is_sent_where_nothing_changed(num_jobs):
    """An idle cluster's page costs a look, and no message."""
    browser = Browser(FakeMonitor(num_jobs, history_s=30))

    for _ in range(5):
        browser.page.update()

    assert browser.sent == []


def test_a_moment_later_only_new_points_are_sent():
    """Not the lines that were there."""
    browser = Browser(FakeMonitor(8, history_s=400))
    browser.monitor.advance(1.0)

    browser.page.update()

    streamed = [event for event in browser.sent if isinstance(event, ColumnsStreamedEvent)]
    assert streamed
    assert all(len(event.data["at"]) == 1 for event in streamed)
    replaced = [event for event in browser.sent if isinstance(event, ColumnDataChangedEvent)]
    assert not any("at" in event.model.data for event in replaced)


def test_lines_stay_bounded():
    """Half an hour of points leaves ten minutes of them in the page."""
    browser = Browser(FakeMonitor(1, history_s=10))

    for _ in range(900):
        browser.monitor.advance(1.0)
        browser.page.update()

    longest = max(len(column) for s in browser.all(ColumnDataSource) for column in s.data.values())
    assert longest == MOST_POINTS


def test_models_do_not_grow_with_time_or_jobs():
    """A page that is open for a week is as large as a new one."""
    few, many = Browser(FakeMonitor(1, history_s=5)), Browser(FakeMonitor(8, history_s=5))
    before = len(list(few.document.models))

    for _ in range(20):
        few.monitor.advance(1.0)
        few.page.update()

    assert len(list(few.document.models)) == before == len(list(many.document.models))


def test_the_empty_page_becomes_a_full_one_with_the_first_job():
    """Without being loaded again."""
    browser = Browser(FakeMonitor(0))
    assert "No pipeline has run here yet" in browser.text
    assert "Latest decisions" not in browser.text

    browser.monitor = FakeMonitor(1, history_s=5)
    browser.page._look = browser.monitor.snapshot
    browser.page.update()

    assert "No pipeline has run here yet" not in browser.text
    assert "Latest decisions" in browser.text


def test_a_job_that_was_chosen_stays_until_it_is_gone():
    """The panels below follow the choice, and not the order of the jobs."""
    browser = Browser(FakeMonitor(8, history_s=5))
    chosen = browser.monitor.snapshot().jobs[2]

    browser.select("Job").value = chosen.name
    browser.page.update()
    assert f"mean {1000 * 0.9779:.1f} ms" in browser.text

    browser.page._look = FakeMonitor(1, history_s=5).snapshot
    browser.page.update()
    assert browser.select("Job").value == "rag/7c2e"


def test_controls_are_shown_only_where_people_may_act():
    """The choice of a job is there for all."""
    looking = Browser(FakeMonitor(1, history_s=5))
    acting = Browser(FakeMonitor(1, history_s=5, may_control=True))

    assert looking.is_shown(looking.select("Job"))
    assert not looking.is_shown(looking.button("Cancel"))
    assert acting.is_shown(acting.button("Cancel"))


@pytest.mark.parametrize("label", ["Pause", "Cancel", "Set policy", "Set limit"])
def test_a_forged_press_does_nothing_where_people_may_only_look(label):
    """The buttons are in the document, so anybody can send that they were pressed."""
    browser = Browser(FakeMonitor(1, history_s=5))

    for _ in range(3):
        browser.press(label)
        browser.monitor.now_s += 1

    assert browser.monitor.actions.calls == []


def test_pause_becomes_resume():
    """And says what happened."""
    browser = Browser(FakeMonitor(1, history_s=5, may_control=True))

    browser.press("Pause")
    assert "rag/7c2e starts nothing more until it is resumed." in browser.text
    browser.press("Resume")

    assert browser.monitor.actions.calls == [("pause", "rag/7c2e"), ("resume", "rag/7c2e")]
    assert browser.is_shown(browser.button("Pause"))


def test_cancel_asks_once_more():
    """The button itself says so."""
    browser = Browser(FakeMonitor(1, history_s=5, may_control=True))

    browser.press("Cancel")
    assert browser.monitor.actions.calls == []
    browser.monitor.now_s += 1
    browser.press("Really cancel?")

    assert browser.monitor.actions.calls == [("cancel", "rag/7c2e")]


def test_a_policy_that_is_being_chosen_stays_chosen():
    """Updates do not take it out of people's hands."""
    browser = Browser(FakeMonitor(1, history_s=5, may_control=True))
    assert browser.select("Policy").value == "spread"

    browser.select("Policy").value = "fifo"
    browser.page.update()
    browser.press("Set policy")

    assert browser.monitor.actions.calls == [("set_policy", "fifo")]
