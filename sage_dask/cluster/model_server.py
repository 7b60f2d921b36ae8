"""A model server to send requests to: started here, or found running.

A started one is a real vLLM in processes of its own, which end with it.  What
is waited for has a bound, and what goes wrong is told with its cause.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from sage_dask.cluster.server_log import cause, last_line
from sage_dask.cluster.server_probe import NotReadyError, base_url, ready_models
from sage_dask.cluster.vllm_command import Device, VllmOptions, find_device, find_python
from sage_dask.cluster.vllm_launch import VllmLaunch
from sage_dask.endpoint.secret import KeySource
from sage_dask.errors import PlanError, RunError, did_you_mean, listed

Say = Callable[[str], None]

_log = logging.getLogger(__name__)

_POLL_S = 0.25
_SAY_EVERY_S = 5.0

# A GPU may load tens of gigabytes first; on two busy cores the tiny model took up to 180 s.
START_TIMEOUT_S = 900.0


class ModelServer:
    """A server that speaks the OpenAI protocol; make one with ``start`` or ``attach``."""

    def __init__(
        self,
        base: str,
        launch: VllmLaunch | None = None,
        *,
        timeout_s: float,
        key: str | None = None,
        say: Say | None = None,
    ) -> None:
        self._base = base
        self._launch = launch
        self._timeout_s = timeout_s
        self._key = key
        self._say = say or _log.info
        self.models: tuple[str, ...] = ()
        """Names of the models it has, as requests give them; empty before it was ready."""

    @classmethod
    def start(
        cls,
        model: str | Path,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        python: str | None = None,
        device: Device | None = None,
        timeout_s: float = START_TIMEOUT_S,
        options: VllmOptions | None = None,
        log: Path | None = None,
        api_key_env: str | None = None,
        say: Say | None = None,
    ) -> ModelServer:
        """Start vLLM with a model, and return once it answers.

        Args:
            model: A folder, or the name of a model on Hugging Face.
            port: Port to listen on; 0 for any free one.
            host: Address to listen on.  Any other than the loopback's lets the network in.
            python: The Python that has vLLM; by default it is looked for.
            device: What the model runs on; by default the GPU, where there is one.
            timeout_s: How long the start may take.
            options: What else vLLM is told.
            log: File that takes what it prints; by default a temporary one, which goes with a
                server that did well.
            api_key_env: Name of the variable with the key that requests must bring.
            say: Called every few seconds with a line about the start; by default it is logged.

        Raises:
            PlanError: There is no vLLM, or no such folder.
            RunError: It died, with the cause, or was not ready in time; nothing of it is left.
        """
        key = _key(api_key_env)
        launch = VllmLaunch(
            model=str(model),
            host=host,
            port=port,
            python=find_python(python),
            device=device or find_device(),
            options=options or VllmOptions(),
            log=log,
            key=key,
        )
        launch.begin()
        server = cls(launch.base, launch, timeout_s=timeout_s, key=key, say=say)
        try:
            server.wait_ready()
        except BaseException:
            launch.end()
            raise
        return server

    @classmethod
    def attach(
        cls, url: str, *, timeout_s: float = 30.0, api_key_env: str | None = None
    ) -> ModelServer:
        """Return a server that runs already, once it answers.

        Args:
            url: Where it is, such as ``http://gpu-0:8000/v1``.
            timeout_s: How long to wait for it.
            api_key_env: Name of the variable that holds its key.

        Raises:
            PlanError: That is no URL.
            SetupError: The variable holds no key.
            RunError: It did not answer in time.
        """
        server = cls(base_url(url), timeout_s=timeout_s, key=_key(api_key_env))
        server.wait_ready()
        return server

    @property
    def endpoint(self) -> str:
        """Base URL for requests: ``Generate(endpoint=...)``."""
        return f"{self._base}/v1"

    @property
    def url(self) -> str:
        """The server's root, where ``/health`` and ``/metrics`` are."""
        return self._base

    @property
    def model(self) -> str:
        """Name of the model that it has, or of the first one: ``Generate(model=...)``."""
        return self.models[0] if self.models else ""

    @property
    def log_path(self) -> Path | None:
        """File with what it prints; None for a server that runs elsewhere."""
        return self._launch.log if self._launch else None

    @property
    def pid(self) -> int | None:
        """Process id of a server that was started here."""
        return self._launch.process.pid if self._launch else None

    def require_model(self, name: str) -> None:
        """Raise ``PlanError`` if the server has no model of that name."""
        if name not in self.models:
            raise PlanError(
                f"model server {self.endpoint} has no model {name!r}; it has "
                f"{listed(self.models)}{did_you_mean(name, self.models)}"
            )

    def wait_ready(self, timeout_s: float | None = None) -> None:
        """Return once the server answers; ask again and again until then.

        Raises:
            RunError: It died, or did not answer in time.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        started = said = time.monotonic()
        tries = 0
        while True:
            self._refuse_dead()
            tries += 1
            try:
                self.models = ready_models(self._base, key=self._key)
                return
            except NotReadyError as error:
                reason = str(error)
            now = time.monotonic()
            if now - started >= limit_s:
                raise RunError(self._silence(limit_s, tries, reason))
            if now - said >= _SAY_EVERY_S:
                said = now
                self._say(f"waiting for {self._base}: {now - started:.0f} s, {self._doing(reason)}")
            time.sleep(min(_POLL_S, limit_s))

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait while a server that was started here runs; at the most ``timeout_s``.

        Raises:
            RunError: It ended by itself; the message carries the cause.
        """
        if self._own().process.wait(timeout_s) is not None:
            self._refuse_dead()

    def restart(self) -> None:
        """Start it once more, at the same port, and return once it answers.

        Raises:
            RunError: It runs elsewhere, died, or was not ready in time.
        """
        self._own().begin()
        self.wait_ready()

    def kill(self) -> None:
        """End its API server with SIGKILL, as a lack of memory does; its engines end after it.

        Raises:
            RunError: It runs elsewhere.
        """
        launch = self._own()
        launch.process.kill()
        launch.process.wait()

    def stop(self) -> None:
        """Stop a server that was started here; one that runs elsewhere goes on."""
        if self._launch is not None:
            has_died = self._launch.process.poll() is not None
            self._launch.end()
            if self.models and not has_died:
                self._launch.forget_log()

    def _own(self) -> VllmLaunch:
        if self._launch is None:
            raise RunError(
                f"model server {self.endpoint} was not started here, so it can not be stopped, "
                "killed or waited for here; use ModelServer.start for one that can"
            )
        return self._launch

    def _refuse_dead(self) -> None:
        if self._launch is not None and (code := self._launch.process.poll()) is not None:
            raise RunError(
                f"model server {self.endpoint} ended with exit code {code}: "
                f"{cause(self._launch.output(), code)} (log: {self._launch.log})"
            )

    def _doing(self, reason: str) -> str:
        """Return what a server that is not ready does: its own last words, if it has any."""
        return (self._launch and last_line(self._launch.output())) or reason

    def _silence(self, limit_s: float, tries: int, reason: str) -> str:
        what = f"model server {self.endpoint} was not ready within {limit_s:g} s"
        if self._launch is None:
            return (
                f"{what} ({tries} tries, last: {reason}); start it with 'sage-dask serve', or "
                "see that the address is right"
            )
        return (
            f"{what}; it last said: {self._doing(reason)!r}; raise timeout_s if it was still "
            f"loading (log: {self._launch.log})"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        models = listed(self.models) if self.models else "not ready"
        if self._launch is None:
            state = "attached"
        else:
            code = self._launch.process.poll()
            state = f"pid {self.pid}" if code is None else f"ended with {code}"
        return f"<ModelServer {self.endpoint}: {models}, {state}>"


def _key(variable: str | None) -> str | None:
    """Return the key that a variable holds."""
    return None if variable is None else KeySource(env=variable).resolve().reveal()
