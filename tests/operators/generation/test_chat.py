"""The HTTP client against a fake server on loopback that fails as it is told."""

from __future__ import annotations

import asyncio
import json
import pickle
import traceback

import pytest

from sage_dask import aio
from sage_dask.completion import Completion, CompletionError, TextModel
from sage_dask.errors import SetupError, StopRun
from sage_dask.operators.generation.chat import OpenAIChat
from sage_dask.operators.generation.retry import Retry
from sage_dask.testing import FakeChatServer, FakeClock, Fault

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def connect(clock):
    """Lend out clients that wait on the fake clock, and close them afterwards."""
    clients = []

    def make(server, **options):
        client = OpenAIChat(
            server.endpoint, "m", clock=clock, sleep=clock.sleep, jitter=lambda: 1.0, **options
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        aio.run(client.close())


def test_prompt_becomes_one_request_and_its_answer_a_completion(connect):
    """The request carries model and parameters; text, usage and finish come back."""
    with FakeChatServer() as server:
        client = connect(server, max_tokens=9, temperature=0.0, extra={"seed": 1})

        answer = aio.run(client.complete("Hello there"))

    assert isinstance(client, TextModel)
    assert server.requests == [
        {
            "model": "m",
            "seed": 1,
            "max_tokens": 9,
            "temperature": 0.0,
            "messages": [{"role": "user", "content": "Hello there"}],
        }
    ]
    assert answer == Completion(
        "Hello there", "echo", "stop", {"prompt_tokens": 2, "completion_tokens": 2}
    )


def test_messages_are_sent_as_they_are_and_none_leaves_parameters_out(connect):
    """A list of messages is the chat itself; None leaves a parameter to the server."""
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    with FakeChatServer() as server:
        client = connect(server, max_tokens=None, temperature=None)

        answer = aio.run(client.complete(messages))

    assert server.requests == [{"model": "m", "messages": messages}]
    assert answer.text == "Hi"


def test_plain_completions_have_a_path_of_their_own(connect):
    """With ``api="completions"`` the prompt travels as a text and comes back as one."""
    with FakeChatServer() as server:
        answer = aio.run(connect(server, api="completions").complete("Once"))

    assert server.requests[0]["prompt"] == "Once"
    assert answer.text == "Once"


@pytest.mark.parametrize(
    "fault",
    [Fault(status) for status in (408, 429, 500, 502, 503, 504)]
    + [Fault(reset=True), Fault(body="no json")],
    ids=str,
)
def test_a_passing_fault_is_tried_again(connect, clock, fault):
    """A busy, broken or rebooting server is asked again after a backoff, and then answers."""
    with FakeChatServer([fault, fault]) as server:
        answer = aio.run(connect(server).complete("Hi"))

    assert answer.text == "Hi"
    assert len(server.requests) == 3
    assert clock() == 0.5 + 1.0


def test_retry_after_is_honoured(connect, clock):
    """The client waits at least as long as the server asks."""
    with FakeChatServer([Fault(429, headers={"Retry-After": "7"})]) as server:
        aio.run(connect(server).complete("Hi"))

    assert clock() == 7.5


def test_latency_is_that_of_the_try_that_answered(connect, clock):
    """Time lost to a failed try and its backoff is not the model's."""

    class SlowModel:
        async def complete(self, prompt):
            clock.advance(3.0)
            return Completion("late", "slow")

    with FakeChatServer([Fault(503)], model=SlowModel()) as server:
        answer = aio.run(connect(server).complete("Hi"))

    assert answer.latency_s == 3.0
    assert clock() == 3.5


def test_tries_are_bounded_and_the_last_reason_is_told(connect):
    """A server that stays busy is given up, and the error says how often and why."""
    with (
        FakeChatServer([Fault(503, body="full")] * 9) as server,
        pytest.raises(CompletionError, match=r"3 tries, last: 503 full") as caught,
    ):
        aio.run(connect(server, retry=Retry(3)).complete("Hi"))

    assert len(server.requests) == 3
    assert caught.value.attempts == 3


def test_a_silent_server_meets_the_deadline(connect):
    """A request that hangs ends by its deadline and not by the server's mercy."""
    with (
        FakeChatServer([Fault(hang=True)]) as server,
        pytest.raises(CompletionError, match=r"no answer within 0\.05 s"),
    ):
        aio.run(connect(server, timeout_s=0.05, retry=Retry(1)).complete("Hi"))


def test_nobody_listening_is_an_error_of_the_record(connect):
    """A refused connection is tried again, then told with the endpoint."""
    with FakeChatServer() as server:
        pass

    with pytest.raises(CompletionError, match="2 tries") as caught:
        aio.run(connect(server, retry=Retry(2)).complete("Hi"))

    assert server.endpoint in str(caught.value)


@pytest.mark.parametrize(
    ("status", "mend"), [(401, "api_key_env"), (403, "access"), (404, "'/v1'")]
)
def test_what_no_other_record_would_escape_stops_the_run(connect, status, mend):
    """A refused key or an unknown model is not tried again, for this record or any other."""
    with (
        FakeChatServer([Fault(status, body="refused")]) as server,
        pytest.raises(StopRun, match=mend),
    ):
        aio.run(connect(server).complete("Hi"))

    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_prompt_fails_alone_and_at_once(connect, status):
    """What is wrong with one prompt is told and not tried again."""
    with (
        FakeChatServer([Fault(status, body="too long")]) as server,
        pytest.raises(CompletionError, match=f"{status} too long"),
    ):
        aio.run(connect(server).complete("Hi"))

    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "overloaded"}},
        {"choices": []},
        {"choices": [{"message": {"content": None}}]},
        {"choices": [{"message": {"content": None, "tool_calls": [{"id": "1"}]}}]},
        ["not", "an", "object"],
        None,
    ],
    ids=str,
)
def test_an_error_never_passes_for_an_answer(connect, answer):
    """A 200 without text is an error that shows what came instead."""
    with (
        FakeChatServer([Fault(200, body=json.dumps(answer))]) as server,
        pytest.raises(CompletionError, match="without text"),
    ):
        aio.run(connect(server).complete("Hi"))


def test_requests_under_way_are_bounded(connect):
    """Of ten prompts sent at once three are under way, until one of them is answered."""
    release = asyncio.Event()

    class HeldModel:
        """Keeps every prompt but a probe until it is released."""

        async def complete(self, prompt):
            if prompt[0]["content"] != "probe":
                await release.wait()
            return Completion("ok", "held")

    async def send_all(bounded, probe):
        sending = asyncio.gather(*(bounded.complete(f"p{i}") for i in range(10)))
        await asyncio.sleep(0)  # All ten start, and those with a slot send.
        for _ in range(5):  # Whatever was sent before a probe has arrived with its answer.
            await probe.complete("probe")
        held = len(server.requests) - 5
        release.set()
        return held, await sending

    with FakeChatServer(model=HeldModel()) as server:
        held, answers = aio.run(send_all(connect(server, concurrency=3), connect(server)))

    assert held == 3
    assert [answer.text for answer in answers] == ["ok"] * 10


def test_a_redirect_does_not_carry_the_key_away(connect, monkeypatch):
    """A server that points elsewhere is not followed, so the key stays where it was meant."""
    monkeypatch.setenv("MY_KEY", KEY)
    with FakeChatServer() as elsewhere:
        away = {"Location": f"{elsewhere.endpoint}/chat/completions"}
        with (
            FakeChatServer([Fault(307, headers=away)]) as server,
            pytest.raises(CompletionError, match="307"),
        ):
            aio.run(connect(server, api_key_env="MY_KEY").complete("Hi"))

    assert elsewhere.requests == []


def test_key_reaches_the_header_and_nothing_else(connect, monkeypatch):
    """The key is sent, and shows in no repr, pickle or error, even if the server repeats it."""
    monkeypatch.setenv("MY_KEY", KEY)
    echoes = [
        Fault(400, body=f"bad key {KEY}"),
        Fault(401, body=KEY),
        Fault(200, body=f"<{KEY}>"),
        Fault(200, body=json.dumps({"error": KEY})),
    ]
    shown = []
    with FakeChatServer(echoes) as server:
        client = connect(server, api_key_env="MY_KEY", retry=Retry(1))
        for _ in echoes:
            with pytest.raises((CompletionError, StopRun)) as caught:
                aio.run(client.complete("Hi"))
            shown += ["".join(traceback.format_exception(caught.value)), repr(caught.value)]
            assert KEY.encode() not in pickle.dumps(caught.value)

    assert server.authorizations == [f"Bearer {KEY}"] * len(echoes)
    assert KEY not in "".join(shown) + repr(client)
    assert "[key]" in shown[0]
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps(client)


@pytest.mark.parametrize("value", [None, "", " "])
def test_a_missing_key_is_told_by_the_name_of_its_variable(monkeypatch, value):
    """A worker without the variable refuses to start rather than ask without a key."""
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)

    with pytest.raises(SetupError, match="MY_KEY"):
        OpenAIChat("http://127.0.0.1:1/v1", "m", api_key_env="MY_KEY")
