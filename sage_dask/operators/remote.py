"""What operators that ask a model server have in common: parameters, and what is made of them.

The parameters are plain values that travel; addresses, keys and connections are
made of them on the worker, by ``setup``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sage_dask import aio
from sage_dask.endpoint.address import check_endpoint
from sage_dask.endpoint.caller import Caller
from sage_dask.endpoint.deadlines import Deadlines
from sage_dask.endpoint.limit import CEILING, RequestLimit
from sage_dask.endpoint.prices import Prices
from sage_dask.endpoint.secret import KeySource
from sage_dask.errors import PlanError, listed
from sage_dask.operators.connection import Connection
from sage_dask.operators.shared import Declared
from sage_dask.stage import Operator

_AT_LEAST_ONE = ("attempts", "max_in_flight", "limit")
_POSITIVE = ("timeout_s", "max_outage_s", "requests_per_minute", "tokens_per_minute")

_IMMATERIAL = (
    *("api_key_env", "api_key_file", "price"),
    *("limit", "max_in_flight", "requests_per_minute", "tokens_per_minute"),
    *("attempts", "connect_s", "first_byte_s", "idle_s", "timeout_s", "max_outage_s"),
)


@dataclass(kw_only=True)
class Remote(Declared, Operator):
    """Parameters of an operator that may send its records to a model server."""

    endpoint: str | Sequence[str] | None = None
    """Base URL of an OpenAI-compatible server, such as ``http://gpu-0:8000/v1``; a list for
    replicas that serve the same model."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of each request, as the server knows them, such as ``{"top_k": 20}``."""
    api_key_env: str | None = None
    """*Name* of the environment variable that holds the key; read on the worker."""
    api_key_file: str | None = None
    """Path of a file that holds the key, instead; read on the worker."""
    limit: int | None = None
    """Requests in flight per server, all workers together; None follows the server's load."""
    max_in_flight: int = CEILING
    """Most requests in flight per server that following its load may lead to."""
    requests_per_minute: float | None = None
    """Rate that a metered server allows; None for no such limit."""
    tokens_per_minute: float | None = None
    """Rate that a metered server allows, prompt and answer together."""
    attempts: int = 4
    """Tries per request that breaks; being turned away by a busy server does not count."""
    connect_s: float = 10.0
    """Deadline for a connection, in seconds."""
    first_byte_s: float | None = None
    """Deadline for the beginning of an answer; None leaves it to ``timeout_s``."""
    idle_s: float = 60.0
    """Longest pause between two pieces of a streamed answer."""
    timeout_s: float = 600.0
    """Deadline of one try as a whole."""
    max_outage_s: float = 600.0
    """How long the run waits for a server that is down before it stops."""
    price: Mapping[str, float] = field(default_factory=dict)
    """Per million tokens: ``{"prompt": 0.15, "completion": 0.60}``, and ``"cached"`` for prompt
    tokens from the server's prefix cache."""
    _connection: Connection | None = field(init=False, repr=False, compare=False, default=None)

    # Fields of a request that have a parameter of their own.
    _not_extra: ClassVar[frozenset[str]] = frozenset({"model"})

    @property
    def is_async(self) -> bool:
        """Waiting for a server is; computing here is not."""
        return self.endpoint is not None

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The servers' base URLs as gates name them; none where the operator computes itself."""
        if self.endpoint is None:
            return ()
        given = [self.endpoint] if isinstance(self.endpoint, str) else self.endpoint
        return tuple(check_endpoint(each, needed_by=type(self).__name__) for each in given)

    @property
    def request_limit(self) -> RequestLimit:
        """What the gate of each server is asked for."""
        return RequestLimit(self.limit, self.max_in_flight)

    @property
    def immaterial(self) -> tuple[str, ...]:
        """How servers are reached, how hard they are asked, and what they charge."""
        return _IMMATERIAL

    def known_by(self) -> Mapping[str, object]:
        """Return that a server is asked, and not which one: models move to other hosts."""
        return {} if self.endpoint is None else {"endpoint": "a server"}

    def check(self) -> None:
        """Refuse what no server could be asked with."""
        name = type(self).__name__
        if self.endpoint is not None and not self.endpoint:
            raise PlanError(f"{name}: endpoint={self.endpoint!r} names no server; leave it out")
        if len(set(self.endpoints)) < len(self.endpoints):
            raise PlanError(
                f"{name}: endpoint={self.endpoint!r} names a server twice; once will do"
            )
        for parameter in _AT_LEAST_ONE:
            value = getattr(self, parameter)
            if value is not None and (type(value) is not int or value < 1):
                raise PlanError(f"{name}: {parameter}={value!r} must be a whole number, at least 1")
        for parameter in _POSITIVE:
            value = getattr(self, parameter)
            # "not >" refuses NaN as well, which no time or rate would ever reach.
            if value is not None and (type(value) not in (int, float) or not value > 0):
                raise PlanError(f"{name}: {parameter}={value!r} must be a number, more than 0")
        if clash := self._not_extra & set(self.extra):
            raise PlanError(
                f"{name}: extra can not set {listed(clash)}; use the parameter of that name "
                "where there is one, and leave out the others"
            )
        # Each refuses in words of its own.
        _ = self._key, self._deadlines, self.prices

    def connect(self) -> Connection:
        """Make the connection that ``teardown`` closes; to be called by ``setup``."""
        self._connection = Connection(
            Caller(
                self.endpoints,
                key=self._key,
                deadlines=self._deadlines,
                attempts=self.attempts,
                max_outage_s=self.max_outage_s,
                requests_per_minute=self.requests_per_minute,
                tokens_per_minute=self.tokens_per_minute,
            ),
            self.prices,
        )
        return self._connection

    def teardown(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            aio.run(connection.caller.close())

    @property
    def _key(self) -> KeySource | None:
        if self.api_key_env is None and self.api_key_file is None:
            return None
        return KeySource(env=self.api_key_env, file=self.api_key_file)

    @property
    def _deadlines(self) -> Deadlines:
        return Deadlines(
            connect_s=self.connect_s,
            first_byte_s=self.first_byte_s,
            idle_s=self.idle_s,
            total_s=self.timeout_s,
        )

    @property
    def prices(self) -> Prices:
        """What tokens cost; nothing where no prices are given."""
        return Prices.of(self.price)
