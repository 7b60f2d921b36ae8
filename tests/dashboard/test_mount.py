"""The page on the dashboard of a scheduler that runs."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from bokeh.server.tornado import BokehTornado
from bokeh.util.token import generate_jwt_token, generate_session_id, get_session_id
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from sage_dask.dashboard.mount import mount
from tests.dashboard.fake_monitor import FakeMonitor
from tests.dashboard.served import mount_on, scheduler_with_dashboard, url


@pytest.fixture(scope="module")
def cluster():
    """Lend a scheduler whose dashboard has the page."""
    with scheduler_with_dashboard() as cluster:
        mount_on(cluster, FakeMonitor(1, history_s=3))
        yield cluster


def get(cluster, page: str) -> str:
    """Return what the dashboard answers."""
    with urlopen(url(cluster, page), timeout=30) as answer:
        return answer.read().decode()


def ours(caplog) -> list[str]:
    """Return what sage_dask wrote to the log."""
    return [record.message for record in caplog.records if record.name.startswith("sage_dask")]


def bokeh_apps(cluster) -> list[BokehTornado]:
    """Return the Bokeh applications of a dashboard."""
    apps = cluster.scheduler.http_application.applications
    return [app for app in apps if isinstance(app, BokehTornado)]


@pytest.mark.parametrize("page", ["status", "workers", "pipelines"])
def test_the_tab_is_in_the_bar_of_every_page(cluster, page):
    """Once, beside Dask's own, which stay."""
    links = Counter(part.split('"')[0] for part in get(cluster, page).split('<a href="'))

    assert links["pipelines"] == 1
    assert links["status"] == 1


def test_jupyterlab_is_told_of_the_page(cluster):
    """Its Dask extension lists the page among the panes, and the pane has no bar."""
    listed = json.loads(get(cluster, "individual-plots.json"))

    assert listed["Individual Pipelines"] == "/individual-pipelines"
    assert "navbar" not in get(cluster, "individual-pipelines").partition("<body")[2]


def test_mounted_again_the_page_shows_the_new_monitor_and_is_there_once():
    """No second tab, no second application, and nothing holds the old monitor."""
    with scheduler_with_dashboard() as cluster:
        first, second = FakeMonitor(1, history_s=3), FakeMonitor(1, history_s=3)
        mount_on(cluster, first)
        num_apps = len(bokeh_apps(cluster))

        mount_on(cluster, second)
        looked = first.num_snapshots
        get(cluster, "pipelines")

        assert len(bokeh_apps(cluster)) == num_apps == 2
        assert get(cluster, "status").count('href="pipelines"') == 1
        assert get(cluster, "status").count('href="individual-pipelines"') == 1
        assert first.num_snapshots == looked
        assert second.num_snapshots > 0


def test_under_a_prefix_the_page_is_there_too():
    """As behind a proxy that serves the dashboard below a path."""
    with scheduler_with_dashboard(scheduler_kwargs={"http_prefix": "/dask"}) as cluster:
        mount_on(cluster, FakeMonitor(0))

        assert "Pipelines" in get(cluster, "dask/pipelines")


def test_without_a_dashboard_there_is_nothing_to_mount(caplog):
    """And nothing to say: whoever started it so knows."""
    with scheduler_with_dashboard(scheduler_kwargs={"dashboard": False}) as cluster:
        mount_on(cluster, FakeMonitor(0))

        assert bokeh_apps(cluster) == []
    assert ours(caplog) == []


class DifferentScheduler:
    """A scheduler of a Dask that looks different."""


def test_a_dask_that_looks_different_gets_one_line_in_the_log(caplog):
    """No page, and no failure."""
    with caplog.at_level(logging.WARNING, "sage_dask"):
        mount(DifferentScheduler(), FakeMonitor(0))

    (said,) = ours(caplog)
    assert "no page 'Pipelines'" in said
    assert "AttributeError" in said


def test_where_dask_fails_half_way_nothing_was_changed(monkeypatch, caplog):
    """Neither a tab without a page, nor a page without a tab."""
    with scheduler_with_dashboard() as other:
        monkeypatch.setattr(
            "sage_dask.dashboard.page.serving.template_variables", lambda scheduler: {"pages": []}
        )
        mount_on(other, FakeMonitor(0))

        assert len(bokeh_apps(other)) == 1
        assert 'href="pipelines"' not in get(other, "status")
    assert len(ours(caplog)) == 1


def test_without_bokeh_there_is_no_page_and_no_failure(monkeypatch, caplog):
    """Dask has no dashboard then, either."""
    for name in [name for name in sys.modules if name.startswith("sage_dask.dashboard.page")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "bokeh.application", None)

    mount(DifferentScheduler(), FakeMonitor(0))

    assert "it needs bokeh" in caplog.text


async def _connect(address: str, token: str) -> object:
    """Return what a websocket with a token is told first; None where it is closed."""
    request = HTTPRequest(address, headers={"Origin": "http://elsewhere.example"})
    connection = await websocket_connect(request, subprotocols=["bokeh", token])
    try:
        return await connection.read_message()
    finally:
        connection.close()


def test_a_session_begins_with_our_page_and_nowhere_else(cluster):
    """A page of another site can open a websocket to a dashboard, but it has no signed token."""
    address = url(cluster, "pipelines/ws").replace("http", "ws", 1)
    forged = generate_jwt_token(generate_session_id(signed=False), signed=False)

    assert cluster.sync(_connect, address, forged) is None

    page = get(cluster, "pipelines")
    token = page.partition('"token":"')[2].partition('"')[0]
    assert get_session_id(token)
    assert cluster.sync(_connect, address, token) is not None


def test_our_page_can_not_be_taken_into_another(cluster):
    """Bokeh would hand its session to any site that asks."""
    with pytest.raises(HTTPError, match="404"):
        get(cluster, "pipelines/autoload.js?bokeh-autoload-element=x")
