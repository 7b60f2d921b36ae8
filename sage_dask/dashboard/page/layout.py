"""The page of one browser: all panels in a grid, brought up to date twice a second.

A panel is a function of a snapshot, and only what it changed is sent: Bokeh sends
no property that is set to what it was.
"""

from __future__ import annotations

from collections.abc import Callable

from bokeh.layouts import column
from bokeh.models import Div, LayoutDOM

from sage_dask.dashboard.page import (
    breakdown,
    decisions,
    empty,
    failures,
    gates,
    header,
    jobs,
    nodes,
    notices,
    stages,
)
from sage_dask.dashboard.page.controls import Controls
from sage_dask.dashboard.page.html import panel
from sage_dask.dashboard.page.plots import BreakdownPlot, TimePlots
from sage_dask.dashboard.page.steering import Steering
from sage_dask.dashboard.page.style import Style
from sage_dask.dashboard.page.theme import PartColours
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.markup import Html


class Page:
    """What one browser sees.

    Args:
        look: Returns the cluster as it is now.
        steering: Carries out what is asked for here.
        scheduler: Address of the scheduler, for the command that runs a first pipeline.
    """

    def __init__(self, look: Callable[[], Snapshot], steering: Steering, scheduler: str) -> None:
        self._look = look
        self._style = Style()
        self._colours = PartColours()
        self._plots = TimePlots()
        self._bars = BreakdownPlot()
        self._controls = Controls(steering, self.update, self._style)
        self._header = self._panel("bare")
        self._notices = self._panel("card")
        self._empty = self._panel("card", empty.render(scheduler))
        self._jobs = self._panel("card")
        self._nodes = self._panel("card")
        self._stages = self._panel("card")
        self._parts = self._panel("card")
        self._gates = self._panel("card")
        self._decisions = self._panel("card")
        self._failures = self._panel("card")
        throughput = self._framed("Throughput", "records/s, a line per job", self._plots.throughput)
        latency = self._framed("Latency", "P50 as a line, P99 dashed", self._plots.latency)
        compared = self._framed(
            "Where the latency goes", "shares of each job's mean", self._bars.figure
        )
        above = [self._jobs, _placed("half", throughput), _placed("half", latency)]
        below = [
            self._controls.root,
            _placed("half", self._stacked(self._stages, compared, self._gates)),
            _placed("half", self._parts),
            _placed("half", self._decisions),
            _placed("half", self._failures),
        ]
        self._with_jobs = [*above, *below]
        self.root = column(
            [self._header, self._notices, self._empty, *above, self._nodes, *below],
            sizing_mode="stretch_width",
            stylesheets=self._style("root"),
        )
        self.update()

    def update(self) -> None:
        """Show the cluster as it is now."""
        snapshot = self._look()
        self._header.text = header.render(snapshot)
        self._show(self._notices, notices.render(snapshot))
        self._nodes.text = nodes.render(snapshot)
        self._empty.visible = not snapshot.jobs
        for each in self._with_jobs:
            each.visible = bool(snapshot.jobs)
        if snapshot.jobs:
            self._show_jobs(snapshot)

    def _show_jobs(self, snapshot: Snapshot) -> None:
        chosen = self._controls.chosen(snapshot.jobs)
        if chosen is None:
            return
        self._controls.show(snapshot, chosen)
        lines = self._plots.update(snapshot.jobs, snapshot.now_s)
        self._jobs.text = jobs.render(snapshot, chosen.name, lines)
        self._stages.text = stages.render(chosen)
        self._bars.show(breakdown.bars(snapshot.jobs, chosen.name, self._colours))
        self._parts.text = breakdown.render(chosen, self._colours)
        self._gates.text = gates.render(snapshot)
        self._decisions.text = decisions.render(snapshot)
        self._failures.text = failures.render(snapshot, chosen.name)

    @staticmethod
    def _show(where: Div, what: Html) -> None:
        where.text = what
        where.visible = bool(what)

    def _panel(self, frame: str, text: Html | None = None) -> Div:
        return Div(
            text=text or "",
            # Else words such as "$$" would be read as formulas.
            disable_math=True,
            sizing_mode="stretch_width",
            stylesheets=self._style("panel", frame),
        )

    def _framed(self, title: str, aside: str, plot: LayoutDOM) -> LayoutDOM:
        heading = self._panel("bare", panel(title, aside=aside))
        return column(heading, plot, sizing_mode="stretch_width", stylesheets=self._style("card"))

    def _stacked(self, *models: LayoutDOM) -> LayoutDOM:
        return column(*models, sizing_mode="stretch_width", stylesheets=self._style("stack"))


def _placed(place: str, model: LayoutDOM) -> LayoutDOM:
    model.css_classes = [place]
    return model
