"""The page in a real browser; run by ``make test-browser``, which leaves screenshots."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.dashboard.fake_monitor import FakeMonitor, job
from tests.dashboard.served import mount_on, scheduler_with_dashboard, url

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"

SIZES = {"desktop": (1280, 800), "phone": (390, 844)}

# A page that answers at all does so within a second; this only ends a test that would hang.
PATIENCE_MS = 10_000

# The last message from the scheduler was drawn.
IDLE = "window.Bokeh && Bokeh.documents.length === 1 && Bokeh.documents[0].is_idle"


@pytest.fixture(scope="module")
def chromium():
    """Lend a browser."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def cluster():
    """Lend a scheduler; each test mounts its own monitor."""
    with scheduler_with_dashboard() as cluster:
        yield cluster


@contextmanager
def visit(chromium, cluster, monitor, *, size="desktop", scheme="light") -> Iterator:
    """Lend the page as it is shown; fail if the browser complained of anything."""
    mount_on(cluster, monitor)
    width, height = SIZES[size]
    page = chromium.new_page(
        viewport={"width": width, "height": height}, color_scheme=scheme, has_touch=size == "phone"
    )
    page.set_default_timeout(PATIENCE_MS)
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type != "log" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        page.goto(url(cluster), wait_until="domcontentloaded")
        page.wait_for_function(IDLE)
        yield page
    finally:
        page.close()
    assert [text for text in complaints if "[bokeh" not in text or "error" in text] == []


def see(where, text: str) -> None:
    """Wait until something is shown."""
    where.get_by_text(text, exact=True).first.wait_for()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("num_jobs", [0, 1, 8])
def test_the_page_fits_its_screen(chromium, cluster, num_jobs, scheme, size):
    """Nothing is wider than the screen; what it looks like is left as a picture."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    monitor = FakeMonitor(num_jobs, 16, may_control=num_jobs == 1)

    with visit(chromium, cluster, monitor, size=size, scheme=scheme) as page:
        page.locator("h2", has_text="Nodes").wait_for()
        widths = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        name = f"{num_jobs}-jobs-{scheme}-{size}"
        page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)

    assert widths[0] == widths[1] == SIZES[size][0]


def test_a_hundred_nodes_fit_too(chromium, cluster):
    """A tile each, and the picture of it."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)

    with visit(chromium, cluster, FakeMonitor(1, 100), size="phone") as page:
        assert page.locator(".tile").count() == 100
        assert page.evaluate("document.documentElement.scrollWidth") == SIZES["phone"][0]
        page.screenshot(path=SCREENSHOTS / "100-nodes-light-phone.png", full_page=True)


def test_dasks_bar_stays_and_the_page_is_a_tab_in_it(chromium, cluster):
    """One click from Dask's own pages, and back."""
    mount_on(cluster, FakeMonitor(0))
    page = chromium.new_page()

    page.goto(url(cluster, "status"), wait_until="domcontentloaded")
    page.get_by_role("link", name="Pipelines").first.click()
    see(page, "No pipeline has run here yet")
    page.get_by_role("link", name="Status").click()

    page.wait_for_url("**/status")
    page.close()


def test_figures_on_the_page_are_those_of_the_snapshot(chromium, cluster):
    """Header, jobs, stages and nodes."""
    monitor = FakeMonitor(8, 16)
    shown = monitor.snapshot()
    first = shown.jobs[0]

    with visit(chromium, cluster, monitor) as page:
        see(page, f"{shown.scheduling.num_queued:,}")
        done = f"{first.progress.num_read:,} / {first.progress.expected:,}"
        page.get_by_text(done).first.wait_for()
        assert page.locator(".job").count() == 8
        assert page.locator(".tile").count() == 16
        stages = first.progress.report.stages
        see(page, f"{stages['generate'].usage.requests:,}")


def test_what_changes_arrives_by_itself(chromium, cluster):
    """Nobody loads the page again; a first job takes the place of the empty page's words."""
    monitor = FakeMonitor(0)

    with visit(chromium, cluster, monitor) as page:
        see(page, "No pipeline has run here yet")
        mount_on(cluster, livelier := FakeMonitor(1))
        see(page, "rag/7c2e")
        livelier.advance(60.0)
        done = f"{livelier.snapshot().jobs[0].progress.num_read:,} / 20,000"
        page.get_by_text(done).first.wait_for()
        page.get_by_text("No pipeline has run here yet").wait_for(state="hidden")


def test_a_click_on_a_job_shows_its_stages(chromium, cluster):
    """The list of jobs follows."""
    monitor = FakeMonitor(8)
    wanted = monitor.snapshot().jobs[2]

    with visit(chromium, cluster, monitor) as page:
        page.locator(".job button").nth(2).click()
        page.locator("tr.chosen", has_text=wanted.name).wait_for()
        assert page.get_by_label("Job").input_value() == wanted.name


def test_buttons_act_and_say_so(chromium, cluster):
    """Pause, resume, cancel with a second thought, policy, gate."""
    monitor = FakeMonitor(1, may_control=True)

    with visit(chromium, cluster, monitor) as page:
        page.get_by_role("button", name="Pause").click()
        page.get_by_text("starts nothing more until it is resumed").wait_for()
        page.get_by_role("button", name="Resume").click()
        page.get_by_text("rag/7c2e goes on.").wait_for()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_role("button", name="Really cancel?").wait_for()
        monitor.now_s += 1
        page.get_by_role("button", name="Really cancel?").click()
        page.get_by_text("is being ended").wait_for()
        page.get_by_label("Policy").select_option("fifo")
        page.get_by_role("button", name="Set policy").click()
        page.get_by_text("Policy fifo decides from now on.").wait_for()
        page.get_by_label("Gate or model server").select_option("llm")
        page.get_by_label("Limit").fill("12")
        page.get_by_label("Limit").press("Enter")
        page.get_by_role("button", name="Set limit").click()
        page.get_by_text("The limit of llm is 12.").wait_for()

    assert monitor.actions.calls == [
        ("pause", "rag/7c2e"),
        ("resume", "rag/7c2e"),
        ("cancel", "rag/7c2e"),
        ("set_policy", "fifo"),
        ("set_gate", "llm", 12.0),
    ]


# Sends what a press of each button sends, whether or not the button is shown.
FORGE = """() => {
  const {ButtonClick} = Bokeh.require("core/bokeh_events")
  const buttons = [...Bokeh.documents[0]._all_models.values()].filter(m => m.type === "Button")
  for (const button of [...buttons, ...buttons]) button.trigger_event(new ButtonClick())
  return buttons.length
}"""


def test_a_browser_that_may_only_look_does_nothing_whatever_it_sends(chromium, cluster):
    """No button is shown, and forged presses are answered and not obeyed."""
    monitor = FakeMonitor(1, may_control=False)

    with visit(chromium, cluster, monitor) as page:
        assert page.get_by_role("button", name="Cancel").count() == 0
        assert page.evaluate(FORGE) == 4
        before = monitor.num_snapshots
        monitor.advance(30.0)
        done = f"{monitor.snapshot().jobs[0].progress.num_read:,} / 20,000"
        page.get_by_text(done).first.wait_for()

    assert monitor.num_snapshots > before
    assert monitor.actions.calls == []


class EvilMonitor(FakeMonitor):
    """A fake whose first job, and whatever is said of it, is an attack."""

    ATTACK = "<img src=x onerror='window.hit = 1'>"

    def snapshot(self):
        """Return a cluster with a job of that name."""
        plain = super().snapshot()
        progress = plain.jobs[0].progress
        told = progress.report
        first, *others = told.breakdown.parts
        parts = (replace(first, seconds=9.0, name=self.ATTACK, meaning=self.ATTACK), *others)
        evil = job(
            self.ATTACK,
            num_read=9,
            notes=(self.ATTACK,),
            points=plain.jobs[0].points,
            report=replace(
                told,
                breakdown=replace(told.breakdown, parts=parts),
                last_failures={self.ATTACK: self.ATTACK},
            ),
        )
        return replace(plain, jobs=[evil])


def test_names_that_are_markup_are_shown_and_do_nothing(chromium, cluster):
    """In tables, lists, and what the plots say where somebody points at them."""
    with visit(chromium, cluster, EvilMonitor(1, may_control=True)) as page:
        page.get_by_text(EvilMonitor.ATTACK).first.wait_for()
        bars = page.locator(".bk-Figure").last
        bars.scroll_into_view_if_needed()
        bars.hover(position={"x": 60, "y": 34})
        page.locator(".bk-Tooltip", has_text=EvilMonitor.ATTACK).wait_for()
        page.screenshot(path=SCREENSHOTS / "hover.png")
        page.locator(".job button").first.click()
        page.get_by_role("button", name="Cancel").click()
        page.get_by_text("Press again within 10 s").wait_for()

        assert page.evaluate("window.hit") is None
        assert page.locator("img[src=x]").count() == 0
