"""One vLLM server on this machine: its address, its log, and the run of it that is under way."""

from __future__ import annotations

import os
import socket
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from sage_dask.cluster.server_log import read_tail
from sage_dask.cluster.server_process import ServerProcess
from sage_dask.cluster.vllm_command import (
    Device,
    VllmOptions,
    is_folder,
    served_name,
    vllm_command,
    vllm_environment,
)
from sage_dask.errors import PlanError, RunError

# Listened on, these stand for all addresses of the machine; none of them can be asked.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


@dataclass(eq=False)
class VllmLaunch:
    """How a server is started, as often as need be at the same port."""

    model: str
    python: str
    device: Device
    host: str = "127.0.0.1"
    port: int = 0
    """Port to listen on; the first start replaces 0 by one that is free."""
    options: VllmOptions = field(default_factory=VllmOptions)
    log: Path | None = None
    """File that takes what it prints; a temporary one is made where there is none."""
    key: str | None = field(default=None, repr=False)
    """API key that requests must bring; vLLM takes it from its environment."""
    _process: ServerProcess | None = field(init=False, default=None)
    _has_own_log: bool = field(init=False, default=False)
    _log_start: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        # What looks like a path is meant as one; a hub would be asked for it otherwise.
        is_path = self.model.startswith((".", "/", "~"))
        if is_path and not is_folder(self.model):
            raise PlanError(
                f"there is no folder {self.model!r} with a model; give one that holds "
                "config.json, or the name of a model on Hugging Face"
            )
        if not 0 <= self.port < 1 << 16:
            raise PlanError(f"port {self.port} is none; give one of 1 to 65535, or 0 for any")

    @property
    def name(self) -> str:
        """What requests call the model."""
        return served_name(self.model, self.options)

    @property
    def base(self) -> str:
        """The server's root, as this machine reaches it."""
        host = _EVERYWHERE.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def process(self) -> ServerProcess:
        """The run that is under way, or the last one."""
        if self._process is None:
            raise RunError("the model server was not started yet; call begin() first")
        return self._process

    def begin(self) -> None:
        """Start the server; an earlier run of it is ended first.

        Raises:
            RunError: The port is taken, or the program can not be started.
        """
        self.end()
        # Another server there would answer in place of this one, while this one dies.
        self.port = free_port(self.host, self.port)
        log = self._prepared_log()
        command = vllm_command(
            self.python, self.model, self.host, self.port, self.device, self.options
        )
        environment = vllm_environment(self.model, self.device, os.environ)
        if self.key is not None:
            environment["VLLM_API_KEY"] = self.key
        self._process = ServerProcess(command, environment, log)

    def end(self) -> None:
        """Stop the server, if it runs; nothing of it is left."""
        if self._process is not None:
            self._process.stop()

    def forget_log(self) -> None:
        """Remove the log, if it is a temporary one."""
        if self._has_own_log and self.log is not None:
            self.log.unlink(missing_ok=True)

    def output(self) -> str:
        """Return the end of what this run printed."""
        return read_tail(self.log, self._log_start) if self.log else ""

    def _prepared_log(self) -> Path:
        """Return the log, and remember where this run begins in it."""
        if self.log is None:
            handle, name = tempfile.mkstemp(prefix="sage-dask-vllm-", suffix=".log")
            os.close(handle)
            self.log, self._has_own_log = Path(name), True
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            self.log.touch()
        except OSError as error:
            raise RunError(
                f"the log {self.log} can not be written ({error.strerror}); give another file"
            ) from error
        self._log_start = self.log.stat().st_size
        return self.log


def free_port(host: str, port: int = 0) -> int:
    """Return a port that nobody listens on: the one given, or any for 0.

    Raises:
        RunError: The port is taken, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do; without it the port of one that just ended counts as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            number: int = probe.getsockname()[1]
            return number
    except OSError as error:
        raise RunError(
            f"a model server can not listen on {host} port {port} ({error.strerror}); choose "
            "another port, or 0 for any free one, and an address of this machine"
        ) from error
