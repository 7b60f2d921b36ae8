"""Parameters that all operators with an endpoint share."""

from __future__ import annotations

import pytest

from sage_dask.endpoint.deadlines import Deadlines
from sage_dask.endpoint.prices import Prices
from sage_dask.endpoint.secret import KeySource
from sage_dask.errors import PlanError, SetupError
from sage_dask.operators import remote
from sage_dask.operators.embed import Embed
from sage_dask.operators.generate import Generate
from sage_dask.operators.rerank import Rerank

URL = "http://127.0.0.1:1/v1"
OPERATORS = [Embed, Generate, Rerank]


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": ""}, "endpoint='' names no server"),
        ({"endpoint": []}, "names no server"),
        ({"endpoint": "ftp://h/v1"}, "no URL"),
        ({"endpoint": [URL, URL + "/"]}, "names a server twice"),
        ({"limit": 0}, "limit=0 must be a whole number, at least 1"),
        ({"max_in_flight": 0}, "max_in_flight=0 must be a whole number, at least 1"),
        ({"attempts": 0}, "attempts=0 must be a whole number, at least 1"),
        ({"connect_s": 0}, "connect_s=0"),
        ({"first_byte_s": -1}, "first_byte_s=-1"),
        ({"idle_s": 0}, "idle_s=0"),
        ({"timeout_s": 0}, "timeout_s=0 must be a number, more than 0"),
        ({"limit": "8"}, "limit='8' must be a whole number"),
        ({"limit": 1.5}, "limit=1.5 must be a whole number"),
        ({"max_outage_s": "1h"}, "max_outage_s='1h' must be a number"),
        ({"timeout_s": float("nan")}, "timeout_s=nan must be a number, more than 0"),
        ({"max_outage_s": 0}, "max_outage_s=0"),
        ({"requests_per_minute": 0}, "requests_per_minute=0"),
        ({"tokens_per_minute": -5}, "tokens_per_minute=-5"),
        ({"api_key_env": "A", "api_key_file": "b"}, "one place"),
        ({"api_key_env": "sk-1234567890abcdefghijkl"}, "no variable's name"),
        ({"extra": {"model": "other"}}, "extra can not set 'model'"),
        ({"price": {"promt": 1.0}}, "did you mean 'prompt'"),
    ],
)
def test_what_could_not_work_is_refused(operator, options, message):
    """Every operator refuses it while planning, in words that name the parameter."""
    with pytest.raises(PlanError, match=message):
        operator(**{"endpoint": URL, "model": "m", **options}).check()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(
    "endpoint", ["http://user:hunter2@h:1/v1", "http://h:1/v1?api_key=hunter2"]
)
def test_a_password_in_the_endpoint_is_refused_and_not_repeated(operator, endpoint):
    """Credentials belong in the environment; the refusal does not show them."""
    with pytest.raises(PlanError, match="api_key_env") as caught:
        operator(endpoint=endpoint, model="m").check()

    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("operator", OPERATORS)
def test_with_an_endpoint_an_operator_waits_and_loads_nothing(operator):
    """It needs no thread of its own and no model library, and says which servers it asks."""
    stage = operator(endpoint=URL, model="m")
    stage.check()

    assert stage.is_async
    assert stage.endpoints == (URL,)
    assert list(stage.imports) == []


class FakeCaller:
    """Notes how it was made, and how often it was closed."""

    def __init__(self, endpoints, **options):
        self.made_with = {"endpoints": endpoints, **options}
        self.num_closed = 0

    async def close(self):
        """Count the call."""
        self.num_closed += 1


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_parameter_reaches_the_caller(operator, set_up, monkeypatch):
    """Each arrives under the name that the client underneath has for it."""
    monkeypatch.setattr(remote, "Caller", FakeCaller)
    stage = set_up(
        operator(
            endpoint=[URL, "http://127.0.0.1:2/v1"], model="m", api_key_file="key.txt", attempts=2,
            connect_s=1.0, first_byte_s=2.0, idle_s=3.0, timeout_s=4.0, max_outage_s=5.0,
            requests_per_minute=6.0, tokens_per_minute=7.0, price={"prompt": 8.0},
        )
    )  # fmt: skip

    assert stage._connection.caller.made_with == {
        "endpoints": stage.endpoints,
        "key": KeySource(file="key.txt"),
        "deadlines": Deadlines(connect_s=1.0, first_byte_s=2.0, idle_s=3.0, total_s=4.0),
        "attempts": 2,
        "max_outage_s": 5.0,
        "requests_per_minute": 6.0,
        "tokens_per_minute": 7.0,
    }
    assert stage._connection.prices == Prices(prompt=8.0)


@pytest.mark.parametrize("operator", OPERATORS)
def test_teardown_closes_the_connection_once(operator, set_up, monkeypatch):
    """What setup opened is closed; a second teardown finds nothing to do."""
    monkeypatch.setattr(remote, "Caller", FakeCaller)
    stage = set_up(operator(endpoint=URL, model="m"))
    caller = stage._connection.caller

    stage.teardown()
    stage.teardown()

    assert caller.num_closed == 1
    with pytest.raises(SetupError, match="setup"):
        stage.process_batch([{}])
