"""The page as an application of the web server that shows Dask's dashboard.

A scheduler that runs has its server already, so the page comes as a second Bokeh
application beside Dask's own.  What is Dask's here is private to Dask; whoever
calls ``serve`` expects it to fail on a Dask that looks different, before anything
of the scheduler was changed.
"""

from __future__ import annotations

import secrets
from typing import Any, Protocol

import dask
from bokeh.application import Application
from bokeh.application.handlers import FunctionHandler
from bokeh.document import Document
from bokeh.server.tornado import BokehTornado
from bokeh.server.util import create_hosts_allowlist
from distributed.dashboard.components.scheduler import env
from distributed.dashboard.core import DaskBokehTornado
from distributed.dashboard.scheduler import template_variables
from distributed.scheduler import Scheduler
from tornado.ioloop import IOLoop
from tornado.web import ErrorHandler

from sage_dask.dashboard.page import style
from sage_dask.dashboard.page.layout import Page
from sage_dask.dashboard.page.steering import Steering
from sage_dask.dashboard.snapshot import Actions, Snapshot

_TAB = "pipelines"
# JupyterLab's Dask extension lists what begins so.
_PANE = "individual-pipelines"

_UPDATE_MS = 500

_WITH_BAR = """{% extends "simple.html" %}
{% block extra_resources %}<style>{{ page_style }}</style>{% endblock %}"""

_WITHOUT_BAR = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
{{ bokeh_css }}{{ bokeh_js }}<style>{{ page_style }}</style>
</head>
<body style="padding: 0 10px">{{ plot_div }}{{ plot_script }}</body>
</html>"""


class Monitor(Protocol):
    """Who knows the cluster, and can act on it."""

    @property
    def actions(self) -> Actions:
        """What may be done to it."""
        ...

    def snapshot(self) -> Snapshot:
        """Return it as it is now."""
        ...


class _Pages(DaskBokehTornado):
    """The tab and the pane of one scheduler.

    Those who may act on a cluster do so by their own pages only.  Session ids are signed, so a page
    of another site can not begin a session, as Dask's setting ``allow-websocket-origin: "*"``
    would let it; and it can not take a page of ours into itself, as ``autoload.js`` would.
    """

    def __init__(self, scheduler: Scheduler, prefix: str, extra: dict[str, Any]) -> None:
        self.monitor: Monitor
        self._address = scheduler.address
        self._extra = {"prefix": prefix, "page_style": style.text("document"), **extra}
        settings = dict(dask.config.get("distributed.scheduler.dashboard.bokeh-application"))
        origins = settings.pop("allow_websocket_origin")
        own = {"sign_sessions": True, "secret_key": secrets.token_bytes(32)}
        super().__init__(
            {
                f"/{_TAB}": Application(FunctionHandler(self._show_tab)),
                f"/{_PANE}": Application(FunctionHandler(self._show_pane)),
            },
            prefix=prefix,
            use_index=False,
            extra_websocket_origins=create_hosts_allowlist(origins, scheduler.http_server.port),
            absolute_url="",
            **{**settings, **own},
        )
        embedding = [
            (f"{prefix}/{name}/autoload.js", ErrorHandler, {"status_code": 404})
            for name in (_TAB, _PANE)
        ]
        self.add_handlers(r".*", embedding)

    def _show_tab(self, doc: Document) -> None:
        self._show(doc, _WITH_BAR)

    def _show_pane(self, doc: Document) -> None:
        self._show(doc, _WITHOUT_BAR)

    def _show(self, doc: Document, template: str) -> None:
        # Of whatever monitor there is when something is looked at: it may be another one later.
        steering = Steering(lambda: self.monitor.snapshot(), lambda: self.monitor.actions)
        page = Page(lambda: self.monitor.snapshot(), steering, self._address)
        doc.title = "Pipelines"
        doc.template = env.from_string(template)
        doc.template_variables.update(self._extra)
        doc.add_root(page.root)
        doc.add_periodic_callback(page.update, _UPDATE_MS)


def serve(scheduler: Scheduler, monitor: Monitor) -> None:
    """Put the page on a scheduler's dashboard; on one that has it, show another monitor.

    Does nothing where the scheduler serves no dashboard.

    Raises:
        Exception: Dask is not as expected; nothing was changed.
    """
    bokeh_apps = [
        app for app in scheduler.http_application.applications if isinstance(app, BokehTornado)
    ]
    if not bokeh_apps:
        return
    pages = next((app for app in bokeh_apps if isinstance(app, _Pages)), None)
    if pages is not None:
        pages.monitor = monitor
        return
    # One dict for all pages of the scheduler, from which each page's bar is made anew.
    extra = template_variables(scheduler)
    tabs, plots, listed = extra["pages"], extra["plots"], bokeh_apps[0].applications
    pages = _Pages(scheduler, bokeh_apps[0].prefix, extra)
    pages.monitor = monitor
    pages.initialize(IOLoop.current())
    pages.start()
    scheduler.http_application.add_application(pages)
    tabs.insert(1, _TAB)
    plots.append({"url": _PANE, "name": "Pipelines"})
    plots.sort(key=lambda plot: plot["name"])
    # JupyterLab's extension is told what Dask's own application has.
    listed[f"/{_PANE}"] = pages.applications[f"/{_PANE}"]
