"""The page over real runs, in a real browser: what it says is what the reports say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.cluster.local import LocalNodes
from sage_dask.cluster.timed_server import TimedServer
from sage_dask.dashboard.page import words
from sage_dask.errors import JobCancelledError
from sage_dask.metrics import in_short
from sage_dask.operators import Generate
from tests.dashboard.test_browser import IDLE, PATIENCE_MS, SCREENSHOTS, chromium

__all__ = ["chromium"]

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server():
    """Lend a timed server of eight seats."""
    with TimedServer(seats=8, latency_s=0.02, request_metrics=True) as server:
        yield server


@pytest.fixture
def nodes():
    """Lend two nodes whose dashboard may be used to steer, and which had a first run."""
    with LocalNodes(2, threads=2, allow_control=True) as nodes:
        first = Pipeline("first").source(FromIterable([{"n": 1}])).map(dict, name="same")
        first.sink(Collect()).run(nodes)
        yield nodes


def odd_ones_fail(record):
    """Fail every tenth record."""
    if record["n"] % 10 == 3:
        raise ValueError("no answer for this one")
    return record


def asking(name, endpoint, num_records=60):
    """Return a pipeline that checks records and asks a server about them."""
    records = [{"id": f"q-{n}", "n": n, "prompt": f"question {n}"} for n in range(num_records)]
    return (
        Pipeline(name)
        .source(FromIterable(records, id="id"))
        .map(odd_ones_fail, name="check")
        .stage("generate", Generate(endpoint, "timed", max_tokens=8))
        .sink(Collect())
    )


class Visitor:
    """A browser on the page of some nodes, and what it complained of."""

    def __init__(self, chromium, nodes):
        self.page = chromium.new_page(viewport={"width": 1280, "height": 800})
        self.page.set_default_timeout(2 * PATIENCE_MS)
        self.complaints = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(nodes.dashboard_link.replace("/status", "/pipelines"))
        self.page.wait_for_function(IDLE)

    def _hear(self, said):
        if said.type == "error":
            self.complaints.append(said.text)

    def cells(self, name):
        """Return what the job table says of a job, cell by cell."""
        row = self.page.locator("tr", has=self.page.locator(f"button[data-job='{name}']"))
        return [text.strip() for text in row.first.locator("td").all_inner_texts()]

    def picture(self, name):
        """Leave a picture."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"runs-{name}.png", full_page=True)


@pytest.fixture
def visitor(chromium, nodes):
    """Lend a visitor who has nothing to complain of."""
    visitor = Visitor(chromium, nodes)
    yield visitor
    visitor.page.close()
    assert visitor.complaints == []


def name_of(report):
    """Return what the page calls the job of a report."""
    return f"{report.pipeline}/{report.job}"


def check_job(visitor, report):
    """Compare a row of the job table with the report that the run returned."""
    name = name_of(report)
    done = visitor.page.locator("tr", has=visitor.page.locator(f"button[data-job='{name}']"))
    done.get_by_text("done", exact=True).first.wait_for()
    _, state, records, _, _, p50, p99, failed, tokens, _ = visitor.cells(name)
    assert state == "done"
    assert records.split() == [f"{report.num_read:,}", "/", f"{report.num_read:,}", "100%"]
    assert (p50, p99) == (
        words.seconds(report.latency.p50_s),
        words.seconds(report.latency.p99_s),
    )
    assert failed == f"{report.num_failed:,}"
    assert tokens == in_short(report.usage.tokens)


def test_one_jobs_figures_are_its_reports(visitor, nodes, server):
    """Job table, stage table, parts of the latency, failures."""
    report = asking("alone", server.endpoint).run(nodes, batch_size=5)

    check_job(visitor, report)
    page = visitor.page
    page.locator(f"button[data-job='{name_of(report)}']").click()
    page.locator("tr.chosen", has_text=name_of(report)).wait_for()
    page.get_by_text(f"over {report.breakdown.num_records:,} records").first.wait_for()
    for stage in ("check", "generate"):
        row = page.locator("tr", has=page.get_by_text(stage, exact=True)).first
        said = row.locator("td").all_inner_texts()
        cost = report.stages[stage]
        assert [text.strip() for text in said[1:3]] == [
            f"{cost.records_in:,}",
            f"{cost.records_out:,}",
        ]
    page.get_by_text("check: ValueError: no answer for this one").first.wait_for()
    visitor.picture("1-job")


def test_eight_jobs_at_once_are_each_as_their_report_says(visitor, nodes, server):
    """They run together, and the page follows all of them."""
    with ThreadPoolExecutor(8) as pool:
        running = [
            pool.submit(asking(f"job_{n}", server.endpoint, 40).run, nodes, batch_size=5)
            for n in range(8)
        ]
        reports = [future.result() for future in running]

    for report in reports:
        check_job(visitor, report)
    visitor.picture("8-jobs")


def test_buttons_pause_resume_and_cancel_a_real_job(visitor, nodes, server):
    """A paused job stands still and says so, a resumed one goes on, a cancelled one ends."""
    news, seen = Event(), []

    def observe(progress):
        seen.append(progress)
        news.set()

    page = visitor.page
    with ThreadPoolExecutor(1) as pool:
        pipeline = asking("steered", server.endpoint, 20_000)
        run = pool.submit(pipeline.run, nodes, batch_size=5, observer=observe)
        choose = page.locator("button[data-job^='steered/']")
        choose.click()
        page.locator("tr.chosen", has_text="steered/").wait_for()

        page.get_by_role("button", name="Pause").click()
        page.locator("tr.chosen").get_by_text("paused", exact=True).wait_for()
        page.get_by_text("paused by an operator").first.wait_for()
        visitor.picture("paused")
        page.get_by_role("button", name="Resume").click()
        page.locator("tr.chosen").get_by_text("running", exact=True).wait_for()
        num_before = seen[-1].num_read
        for _ in range(100):
            news.clear()
            assert news.wait(30)
            if seen[-1].num_read > num_before:
                break
        page.get_by_role("button", name="Cancel").click()
        page.wait_for_timeout(1500)
        page.get_by_role("button", name="Really cancel?").click()

        with pytest.raises(JobCancelledError):
            run.result(30)
        page.locator("tr.chosen").get_by_text("JobCancelledError").first.wait_for()

    assert seen[-1].num_read > num_before
    visitor.picture("cancelled")


def test_a_policy_and_a_limit_that_are_set_hold(visitor, nodes):
    """What the page says was done, was done."""
    page = visitor.page

    page.get_by_label("Policy").select_option("pack")
    page.get_by_role("button", name="Set policy").click()
    page.get_by_text("Policy pack decides from now on.").wait_for()

    assert nodes.scheduling.policy == "pack"
