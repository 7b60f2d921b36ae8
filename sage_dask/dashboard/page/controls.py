"""The controls: which job is looked at, and what is to become of it, of policy and gates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bokeh.layouts import row
from bokeh.models import Button, Div, Select, TextInput, UIElement

from sage_dask.dashboard.board import PAUSED, JobView
from sage_dask.dashboard.page.html import clipped
from sage_dask.dashboard.page.steering import Answer, Steering
from sage_dask.dashboard.page.style import Style
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.markup import element
from sage_dask.scheduling.policies import known


class Controls:
    """Widgets that ask ``Steering``; those that act are there only where people may.

    Args:
        steering: Carries out what is asked for.
        changed: Called when another job was chosen, or something was done.
        style: Of the page.
    """

    def __init__(self, steering: Steering, changed: Callable[[], None], style: Style) -> None:
        self._style = style
        self._steering = steering
        self._changed = changed
        self._wanted: str | None = None
        self._shown: str | None = None
        self._is_paused = False
        self.job = self._select("Job", 260, name="chosen-job")
        self.job.on_change("value", self._choose)
        self._hold = self._button("Pause", self._press_hold)
        self._cancel = self._button("Cancel", self._press_cancel)
        self._policy = self._select("Policy", 150, options=list(known()))
        self._set_policy = self._button("Set policy", self._press_policy)
        self._gate = self._select("Gate or model server", 220)
        self._limit = TextInput(
            title="Limit", placeholder="none", width=80, stylesheets=self._style("widgets")
        )
        self._set_gate = self._button("Set limit", self._press_gate)
        self._answer = Div(
            visible=False, disable_math=True, stylesheets=self._style("panel", "bare")
        )
        self._of_job = self._row(self._hold, self._cancel)
        self._of_policy = self._row(self._policy, self._set_policy)
        self._of_gates = self._row(self._gate, self._limit, self._set_gate)
        self._acting = self._row(self._of_job, self._of_policy, self._of_gates, self._answer)
        self.root = row(
            self.job,
            self._acting,
            sizing_mode="stretch_width",
            stylesheets=self._style("card", "row"),
        )

    def chosen(self, jobs: Sequence[JobView]) -> JobView | None:
        """Return the job to look at: the one that was chosen while it is there, or the first."""
        first = jobs[0] if jobs else None
        return next((job for job in jobs if job.name == self._wanted), first)

    def show(self, snapshot: Snapshot, chosen: JobView | None) -> None:
        """Show what may be chosen and done now."""
        self._shown = chosen.name if chosen is not None else None
        self.job.options = [(job.name, clipped(job.name, 60)) for job in snapshot.jobs]
        self.job.value = self._shown or ""
        self._acting.visible = snapshot.may_control
        if snapshot.may_control:
            self._show_acting(snapshot, chosen)

    def _show_acting(self, snapshot: Snapshot, chosen: JobView | None) -> None:
        self._of_job.visible = chosen is not None and not chosen.is_over
        self._is_paused = chosen is not None and chosen.state == PAUSED
        self._hold.label = "Resume" if self._is_paused else "Pause"
        asked = self._steering.awaits_confirmation(self._shown or "", snapshot.now_s)
        self._cancel.update(
            label="Really cancel?" if asked else "Cancel",
            button_type="danger" if asked else "default",
        )
        scheduling = snapshot.scheduling
        self._of_policy.visible = scheduling is not None
        gates = sorted([*scheduling.gates, *scheduling.servers]) if scheduling is not None else []
        self._of_gates.visible = bool(gates)
        self._gate.options = [(name, clipped(name, 60)) for name in gates]
        if scheduling is not None and not self._policy.value:
            self._policy.value = scheduling.policy
        if gates and self._gate.value not in gates:
            self._gate.value = gates[0]

    def _choose(self, _name: str, _old: str, new: str) -> None:
        # Called also when ``show`` sets the value, which is no choice of anybody's.
        if new != self._shown:
            self._wanted = new
            self._changed()

    def _press_hold(self) -> None:
        act = self._steering.resume if self._is_paused else self._steering.pause
        self._tell(act(self.job.value))

    def _press_cancel(self) -> None:
        self._tell(self._steering.cancel(self.job.value))

    def _press_policy(self) -> None:
        self._tell(self._steering.set_policy(self._policy.value))

    def _press_gate(self) -> None:
        self._tell(self._steering.set_gate(self._gate.value, self._limit.value))

    def _tell(self, answer: Answer) -> None:
        kind = f"answer {answer.kind}"
        self._answer.text = element("div", clipped(answer.words), class_=kind, role="status")
        self._answer.visible = True
        self._changed()

    def _select(self, title: str, width: int, **options: object) -> Select:
        return Select(title=title, width=width, stylesheets=self._style("widgets"), **options)

    def _button(self, label: str, pressed: Callable[[], None]) -> Button:
        made = Button(label=label, width_policy="min", stylesheets=self._style("widgets"))
        made.on_click(pressed)
        return made

    def _row(self, *children: UIElement) -> UIElement:
        return row(*children, stylesheets=self._style("row"))
