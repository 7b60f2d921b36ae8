"""What an operator has chosen for the dispatcher of a cluster, and how to make one like it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sage_dask.scheduling.dispatcher import Dispatcher, OnPolicyError
from sage_dask.scheduling.policies import DEFAULT
from sage_dask.scheduling.policy import Policy
from sage_dask.scheduling.servers import Servers


@dataclass
class Settings:
    """Choices that outlive any one dispatcher; it travels to the scheduler with the plugin."""

    policy: str | Policy = DEFAULT
    on_policy_error: OnPolicyError = "fail"
    saturation: float = 1.0
    patience_s: float = 5.0
    gates: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    quotas: dict[str, Mapping[str, float]] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)

    def make_dispatcher(
        self, timer: Callable[[], float], servers: Servers | None = None
    ) -> Dispatcher:
        """Return a new dispatcher with everything that was chosen, and what servers it knows."""
        dispatcher = Dispatcher(
            self.policy,
            saturation=self.saturation,
            patience_s=self.patience_s,
            on_policy_error=self.on_policy_error,
            servers=servers,
            timer=timer,
        )
        for name, limit in self.gates.items():
            dispatcher.set_gate(name, limit)
        for job, weight in self.weights.items():
            dispatcher.set_weight(job, weight)
        for job, quota in self.quotas.items():
            dispatcher.set_quota(job, quota)
        for job in self.paused:
            dispatcher.set_paused(job, True)
        return dispatcher
