"""Calls: slots, retries, deadlines and keys together, against servers on loopback."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import socket
import time
import traceback
from contextlib import contextmanager

import pytest
from aiohttp import web

from sage_dask import aio
from sage_dask.completion import Completion, CompletionError
from sage_dask.endpoint.call_times import CallTimes
from sage_dask.endpoint.caller import Answer, Caller, CallerStatistics
from sage_dask.endpoint.context import RequestContext, working
from sage_dask.endpoint.deadlines import Deadlines
from sage_dask.endpoint.report import Outcomes
from sage_dask.endpoint.retry import shared_budget
from sage_dask.endpoint.secret import KeySource
from sage_dask.endpoint.slots import RequestSlots
from sage_dask.errors import PlanError, SetupError, StopRun
from sage_dask.testing import FakeChatServer, FakeClock, Fault

KEY = "sk-cAnArY/0123456789+secret"
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
PATH = "chat/completions"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def context(clock):
    """One stage at work; afterwards no slot is held and no request is left."""
    context = RequestContext(slots=RequestSlots(clock, lambda: 0.0), job="rag/1", task="t")
    yield context
    assert context.slots.statistics().in_flight == 0
    assert context.slots.statistics().waiting == 0
    assert sum(context.slots.report().outstanding.values()) == 0


@pytest.fixture
def connect(clock):
    """Lend out callers that wait on the fake clock, and close them afterwards."""
    callers = []

    def make(*servers, **options):
        endpoints = [getattr(server, "endpoint", server) for server in servers]
        options = {"clock": clock, "sleep": clock.sleep, "jitter": lambda: 1.0, **options}
        callers.append(Caller(endpoints, **options))
        return callers[-1]

    yield make
    for caller in callers:
        aio.run(caller.close())


def ask(caller, context, **options):
    """Make one call for a context."""
    return aio.run(_ask(caller, context, **options))


async def _ask(caller, context, **options):
    with working(context):
        return await caller.call(PATH, BODY, **options)


async def _ask_all(caller, context, count):
    calls = (_ask(caller, context) for _ in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


def test_a_call_brings_the_answer_and_what_it_took(connect, context, clock):
    """Body, server, latency and attempts are told, and the context's usage counts the request."""

    class SlowModel:
        async def complete(self, prompt):
            clock.advance(3.0)
            return Completion("late", "slow")

    with FakeChatServer(model=SlowModel()) as server:
        caller = connect(f"{server.endpoint}/")

        answer = ask(caller, context)

    assert isinstance(answer, Answer)
    assert answer.body["choices"][0]["message"]["content"] == "late"
    assert (answer.endpoint, answer.latency_s, answer.attempts) == (server.endpoint, 3.0, 1)
    assert context.usage.as_dict() == {"requests": 1}
    assert context.slots.report().outcomes == {server.endpoint: Outcomes(ok=1, latency_s=3.0)}
    assert caller.statistics() == CallerStatistics(calls=0, answered=1, failed=0, sent=1)


@pytest.mark.parametrize(
    ("fault", "outcomes"),
    [(Fault(status), Outcomes(failed=2, ok=1)) for status in (408, 500, 502, 504)]
    + [(Fault(status), Outcomes(busy=2, ok=1)) for status in (429, 503)]
    + [(fault, Outcomes(failed=2, ok=1)) for fault in (Fault(reset=True), Fault(body="no json"))],
    ids=str,
)
def test_a_passing_fault_is_tried_again(connect, context, clock, fault, outcomes):
    """A busy, broken or restarting server is asked again after a backoff, and then answers."""
    with FakeChatServer([fault, fault]) as server:
        answer = ask(connect(server), context)

    assert answer.attempts == len(server.requests) == 3
    assert clock() == 0.5 + 1.0
    assert context.usage.as_dict() == {"requests": 3, "retries": 2}
    assert context.slots.report().outcomes == {server.endpoint: outcomes}


def test_latency_is_that_of_the_try_that_answered(connect, context, clock):
    """Time lost to a failed try and its backoff is not the model's."""
    with FakeChatServer([Fault(503)]) as server:
        answer = ask(connect(server), context)

    assert clock() == 0.5
    assert answer.latency_s == 0.0


class Slow:
    """Answers after a while of the fake clock, or breaks then, as often as it is told."""

    def __init__(self, clock, *, seconds, times_broken=0):
        self.clock = clock
        self.seconds = seconds
        self.times_broken = times_broken

    async def complete(self, prompt):
        self.clock.advance(self.seconds)
        self.times_broken -= 1
        if self.times_broken >= 0:
            raise RuntimeError("planted")  # The server makes a 500 of it.
        return Completion("late", "slow")


def test_a_call_that_is_answered_at_once_spends_its_time_being_sent(connect, context, clock):
    """There is nothing else in it."""
    with FakeChatServer(model=Slow(clock, seconds=3.0)) as server:
        ask(connect(server), context)

    assert context.calls == CallTimes(calls=1, sent_s=3.0)


def test_the_tries_of_a_call_and_what_lies_between_them_are_its_time(connect, context, clock):
    """Turned away, broken, answered: the tries are sent time, and the waits are backoff."""
    with FakeChatServer([Fault(503)], model=Slow(clock, seconds=3.0, times_broken=1)) as server:
        ask(connect(server), context)

    assert context.calls == CallTimes(calls=1, sent_s=6.0, backoff_s=0.5 + 1.0)
    assert context.calls.sent_s + context.calls.backoff_s == clock()


def test_a_call_that_fails_has_spent_its_time_too(connect, context, clock):
    """No backoff follows the last try."""
    with (
        FakeChatServer(model=Slow(clock, seconds=3.0, times_broken=9)) as server,
        pytest.raises(CompletionError),
    ):
        ask(connect(server, attempts=2), context)

    assert context.calls == CallTimes(calls=1, sent_s=6.0, backoff_s=0.5)


def test_waiting_for_the_rate_limit_or_a_quota_is_waiting_for_a_turn(connect, context, clock):
    """A wish of the server's that concerns all records holds the next call back as well."""
    wish = Fault(429, headers={"Retry-After": "500"})
    with FakeChatServer([wish]) as server:
        caller = connect(server)
        ask(caller, context)
        assert context.calls == CallTimes(calls=1, turn_s=499.5, backoff_s=0.5)

        limited = connect(server, requests_per_minute=6)
        for _ in range(2):
            ask(limited, context)

    assert context.calls.turn_s - 499.5 == pytest.approx(10.0, abs=0.3)
    assert context.calls.turn_s + context.calls.backoff_s == pytest.approx(clock())
    assert (context.calls.calls, context.calls.sent_s) == (3, 0.0)


def test_a_call_that_stops_the_run_is_counted(connect, context):
    """Also where it never came to be sent."""
    with FakeChatServer([Fault(429, headers={"Retry-After": "86400"})]) as server:
        caller = connect(server)
        for _ in range(2):
            with pytest.raises(StopRun):
                ask(caller, context)

    assert context.calls == CallTimes(calls=2, backoff_s=0.5)


METRICS = {"queue_time_ms": 1500.0, "time_to_first_token_ms": 250.0, "generation_time_ms": 1000.0}


@pytest.mark.parametrize("is_streamed", [False, True])
def test_what_a_server_tells_of_its_time_is_summed(connect, context, wire, is_streamed):
    """In a whole answer, or in the event that ends a stream; other answers count for nothing."""
    choice = {"index": 0, "finish_reason": "stop"}
    message = {"role": "assistant", "content": "ok"}
    if is_streamed:
        chunk = {"object": "chat.completion.chunk"}
        events = [
            {**chunk, "choices": [{**choice, "delta": message}]},
            {**chunk, "choices": [], "usage": {"total_tokens": 2}, "metrics": METRICS},
            "[DONE]",
        ]
        script = [wire.stream_head(), *map(wire.event, events), wire.last_chunk]
    else:
        script = [wire.whole({"choices": [{**choice, "message": message}], "metrics": METRICS})]
    server = wire.serve([wire.whole("", "503 X")], script)
    caller = connect(server)

    told = ask(caller, context, stream=is_streamed)
    untold = ask(caller, context, stream=is_streamed)

    assert (told.attempts, told.body["metrics"]) == (2, METRICS)
    assert "metrics" not in untold.body
    assert context.calls == CallTimes(
        calls=2, backoff_s=0.5, told=1, queue_s=1.5, first_token_s=0.25, generation_s=1.0
    )


def test_the_share_of_an_answer_that_tells_is_its_own_try(connect, context, clock):
    """Tries that failed before it, and their backoff, are not held against the server's times."""
    answer = {"choices": [{"message": {"content": "ok"}}], "metrics": METRICS}

    async def respond(request):
        clock.advance(3.0)
        return web.json_response(answer) if clock() > 5.0 else web.Response(status=503)

    with served(respond) as endpoint:
        ask(connect(endpoint), context)

    assert (context.calls.sent_s, context.calls.told_sent_s) == (6.0, 3.0)


@contextmanager
def served(respond):
    """Serve chat completions with a handler, and give the endpoint."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", respond)
    runner = web.AppRunner(app, shutdown_timeout=0)

    async def start():
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    try:
        yield aio.run(start())
    finally:
        aio.run(runner.cleanup())


def test_retry_after_is_honoured(connect, context, clock):
    """The next try comes no sooner than the server wants."""
    with FakeChatServer([Fault(429, headers={"Retry-After": "7"})]) as server:
        ask(connect(server), context)

    assert clock() == 7.5


def test_a_busy_server_costs_no_attempts(connect, context):
    """A record with two attempts survives nine refusals for the server's load."""
    with FakeChatServer([Fault(429), Fault(503)] * 4 + [Fault(500)]) as server:
        answer = ask(connect(server, attempts=2), context)

    assert answer.attempts == 10


def test_a_backoff_holds_no_slot(connect, context):
    """With one slot, another call is answered while the first one waits for its next try."""
    backing_off = asyncio.Event()
    over = asyncio.Event()

    async def sleep(seconds):
        backing_off.set()
        await over.wait()

    async def both(caller, server):
        context.slots.allot({server.endpoint: {"rag/1": 1}}, 1)
        first = asyncio.create_task(_ask(caller, context))
        await backing_off.wait()
        second = await _ask(caller, context)
        over.set()
        return await first, second

    with FakeChatServer([Fault(503)]) as server:
        first, second = aio.run(both(connect(server, sleep=sleep), server))

    assert (first.attempts, second.attempts) == (2, 1)
    assert server.most_in_flight == 1


def test_attempts_are_bounded_and_the_last_reason_is_told(connect, context):
    """A record that breaks each time is given up, and the error says how often and why."""
    with (
        FakeChatServer([Fault(500, body="oops")] * 9) as server,
        pytest.raises(CompletionError, match=r"3 attempts, last: 500 oops") as caught,
    ):
        ask(connect(server, attempts=3), context)

    assert len(server.requests) == 3
    assert caught.value.attempts == 3
    assert server.endpoint in str(caught.value)


def test_one_bad_record_among_good_ones_fails_alone(connect, context):
    """A record that breaks each time spends its own attempts, while others are answered."""

    async def all_of_them(caller):
        bad = {**BODY, "messages": [{"role": "user", "content": "bad"}]}
        with working(context):
            calls = [caller.call(PATH, bad), *(caller.call(PATH, BODY) for _ in range(20))]
            return await asyncio.gather(*calls, return_exceptions=True)

    class Choosy:
        async def complete(self, prompt):
            if prompt[0]["content"] == "bad":
                raise RuntimeError("planted")  # The server makes a 500 of it.
            return Completion("ok", "choosy")

    with FakeChatServer(model=Choosy()) as server:
        bad, *good = aio.run(all_of_them(connect(server)))

    assert isinstance(bad, CompletionError)
    assert bad.attempts == 4
    assert all(isinstance(each, Answer) for each in good)


def test_a_server_that_comes_back_has_lost_no_record(connect, context):
    """Calls that are made while nobody listens are answered once somebody does."""
    context.slots = RequestSlots(jitter=lambda: 0.0)
    # Its port is taken, so that nobody else listens there, and refuses connections.
    address = socket.socket()
    address.bind(("127.0.0.1", 0))
    endpoint = f"http://127.0.0.1:{address.getsockname()[1]}/v1"
    caller = connect(
        endpoint, attempts=1, clock=time.monotonic, sleep=asyncio.sleep, jitter=lambda: 0.01
    )
    app = web.Application()
    app.router.add_post("/v1/chat/completions", _answer_nothing)
    runner = web.AppRunner(app, shutdown_timeout=0)

    async def outage():
        calls = asyncio.create_task(_ask_all(caller, context, 12))
        while context.slots.down_s(endpoint) is None:
            await asyncio.sleep(0)
        await runner.setup()
        await web.SockSite(runner, address).start()
        return await calls

    try:
        answers = aio.run(outage())
    finally:
        aio.run(runner.cleanup())

    assert all(isinstance(each, Answer) for each in answers)
    assert max(each.attempts for each in answers) > 1


async def _answer_nothing(request):
    return web.json_response({})


def test_the_retry_budget_is_shared_and_bounds_what_a_server_is_asked(connect, context):
    """Among forty records, repeats stay within a tenth of the answers and ten, counted there."""
    faults = [Fault(500), Fault()] * 40

    class Flaky:
        async def complete(self, prompt):
            if faults.pop(0).status == 500:
                raise RuntimeError("planted")
            return Completion("ok", "flaky")

    with FakeChatServer(model=Flaky()) as server:
        callers = [connect(server), connect(server)]
        outcomes = []
        for number in range(40):
            try:
                outcomes.append(ask(callers[number % 2], context))
            except CompletionError as error:
                outcomes.append(error)

    answered = sum(isinstance(each, Answer) for each in outcomes)
    assert len(server.requests) - 40 <= 0.1 * answered + 10
    assert any("repeats for" in str(each) for each in outcomes)


def test_answers_earn_the_budget_for_repeats(connect, context):
    """Each answer counts in the budget that all callers of a server share."""
    with FakeChatServer([Fault(500)]) as server:
        caller = connect(server)
        for _ in range(3):
            ask(caller, context)

        assert shared_budget(caller.endpoints).statistics() == (1, 3)


def test_no_pool_holds_requests_back(connect, context):
    """Hundreds of requests are under way at once, if the slots let them."""
    everyone = asyncio.Event()

    class Barrier:
        """Answers nobody before all have asked."""

        async def complete(self, prompt):
            if len(server.requests) == 150:
                everyone.set()
            await everyone.wait()
            return Completion("ok", "barrier")

    with FakeChatServer(model=Barrier()) as server:
        answers = aio.run(_ask_all(connect(server), context, 150))

    assert all(isinstance(each, Answer) for each in answers)
    assert server.most_in_flight == 150


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_request_fails_alone_and_at_once(connect, context, status):
    """What is wrong with one record is told and not tried again; the server counts as well."""
    with (
        FakeChatServer([Fault(status, body="too long")]) as server,
        pytest.raises(CompletionError, match=rf"refused the request: {status} too long"),
    ):
        ask(connect(server), context)

    assert len(server.requests) == 1
    assert context.slots.report().outcomes[server.endpoint].ok == 1


@pytest.mark.parametrize(
    ("status", "mend"), [(401, "api_key_env"), (403, "access"), (404, "'/v1'"), (307, "endpoint=")]
)
def test_what_no_other_record_would_escape_stops_the_run(connect, context, status, mend):
    """A refused key or an unknown model is not tried again, for this record or any other."""
    with (
        FakeChatServer([Fault(status, body="refused")]) as server,
        pytest.raises(StopRun, match=mend) as caught,
    ):
        ask(connect(server), context)

    assert len(server.requests) == 1
    assert f"{server.endpoint} (model 'm'): {status} refused" in str(caught.value)


def test_a_404_of_a_server_that_answered_before_passes(connect, context):
    """A proxy says so while its server restarts."""
    with FakeChatServer() as server:
        caller = connect(server)
        ask(caller, context)
        server.faults.append(Fault(404, body="no backend"))

        assert ask(caller, context).attempts == 2


def test_a_server_without_quota_is_left_alone_by_all(connect, context, clock):
    """After a wish of ten minutes no call asks it again until they are over."""
    times = []

    class Noting:
        async def complete(self, prompt):
            times.append(clock())
            return Completion("ok", "noting")

    with FakeChatServer([Fault(429, headers={"Retry-After": "500"})], model=Noting()) as server:
        caller = connect(server)
        first = ask(caller, context)
        second = ask(caller, context)

    assert (first.attempts, second.attempts) == (2, 1)
    assert times[0] >= 500.0


def test_another_replica_takes_over_for_one_without_quota(connect, context, clock):
    """The wait of one server is not that of the others."""
    wish = Fault(429, headers={"Retry-After": "500"})
    with FakeChatServer([wish]) as a, FakeChatServer([wish]) as b:
        caller = connect(a, b)
        b.faults.clear()
        answers = [ask(caller, context) for _ in range(8)]

    assert clock() < 500.0
    assert len(a.requests) <= 1
    assert sum(answer.endpoint == b.endpoint for answer in answers) >= 7


def test_a_quota_that_is_longer_than_any_outage_stops_the_run(connect, context):
    """Waiting for tomorrow is left to the user."""
    with (
        FakeChatServer([Fault(429, headers={"Retry-After": "86400"})]) as server,
        pytest.raises(StopRun, match=r"no request for 86\d\d\d s .*max_outage_s=600"),
    ):
        ask(connect(server), context)

    assert len(server.requests) == 1


def test_the_rate_limit_comes_before_the_slot(connect, context, clock):
    """A request that waits for its minute holds no slot that others could use."""
    asleep = asyncio.Event()
    over = asyncio.Event()

    async def sleep(seconds):
        asleep.set()
        await over.wait()
        clock.advance(seconds)

    async def held_meanwhile(caller):
        first = await _ask(caller, context)
        second = asyncio.create_task(_ask(caller, context))
        await asleep.wait()
        held = context.slots.statistics().in_flight
        over.set()
        return held, first, await second

    with FakeChatServer() as server:
        held, *answers = aio.run(
            held_meanwhile(connect(server, sleep=sleep, requests_per_minute=6))
        )

    assert held == 0
    assert [answer.attempts for answer in answers] == [1, 1]
    assert clock() == pytest.approx(10.0, abs=0.3)


def test_tokens_are_paced_by_what_the_server_counted(connect, context, clock):
    """An estimate of a minute's worth is corrected, so that the next call need not wait for it."""

    class Counting:
        async def complete(self, prompt):
            return Completion("ok", "counting", usage={"total_tokens": 10})

    with FakeChatServer(model=Counting()) as server:
        caller = connect(server, tokens_per_minute=600)
        for _ in range(3):
            ask(caller, context, tokens=600)

    assert clock() == pytest.approx(2.0, abs=0.3)


def test_a_share_slows_a_process_down(connect, context, clock):
    """Told that half of the limit is its own, a process sends half as often."""
    context.slots.share = 0.5
    with FakeChatServer() as server:
        caller = connect(server, requests_per_minute=60)
        aio.run(_ask_all(caller, context, 3))

    assert clock() == pytest.approx(4.0, abs=0.6)


@pytest.mark.parametrize(
    ("state", "part"),
    [("in flight", "sent_s"), ("waiting for a slot", "turn_s"), ("backing off", "backoff_s")],
)
def test_a_cancelled_call_leaves_nothing_behind(connect, context, clock, state, part):
    """Wherever it is cancelled, its slot is free, nobody counts it any more, and its time is."""
    asleep = asyncio.Event()

    async def sleep(seconds):
        asleep.set()
        await asyncio.Event().wait()

    async def cancelled(caller, server):
        slots = 0 if state == "waiting for a slot" else 1
        context.slots.allot({server.endpoint: {"rag/1": slots}}, 1)
        task = asyncio.create_task(_ask(caller, context))
        if state == "backing off":
            await asleep.wait()
        else:
            while not (server.requests if state == "in flight" else _waiting(context)):
                await asyncio.sleep(0)
        clock.advance(5.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    fault = Fault(503) if state == "backing off" else Fault(hang=True)
    with FakeChatServer([fault]) as server:
        caller = connect(server, sleep=sleep)
        assert aio.run(cancelled(caller, server))

    assert caller.statistics() == CallerStatistics(0, 0, 1, 0 if "slot" in state else 1)
    assert context.calls == CallTimes(calls=1, **{part: 5.0})


def _waiting(context):
    return context.slots.statistics().waiting


def test_one_fatal_answer_in_a_group_cancels_the_others(connect, context):
    """In a TaskGroup the run stops at once, and the slots of all requests are free."""

    async def grouped(caller):
        async with asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(_ask(caller, context))

    with (
        FakeChatServer([Fault(401), *[Fault(hang=True)] * 4]) as server,
        pytest.raises(ExceptionGroup) as caught,
    ):
        aio.run(grouped(connect(server)))

    assert [type(each) for each in caught.value.exceptions] == [StopRun]


def test_a_silent_server_meets_the_deadline(connect, context):
    """A request that hangs ends by its deadline, and the message says what to raise."""
    with (
        FakeChatServer([Fault(hang=True)]) as server,
        pytest.raises(CompletionError, match=r"within 0\.05 s \(raise timeout_s"),
    ):
        ask(connect(server, attempts=1, deadlines=Deadlines(total_s=0.05)), context)


def test_tries_of_a_call_share_an_id_and_differ_by_number(connect, context, wire):
    """A server's log tells which requests were one record's."""
    server = wire.serve([wire.whole("", "503 X")], [wire.whole("", "500 X")])
    caller = connect(server)

    ask(caller, context, request_id="rag-7")
    ask(caller, context)

    ids = [seen.headers["x-request-id"] for seen in server.seen]
    assert ids[:3] == ["rag-7-1", "rag-7-2", "rag-7-3"]
    assert ids[3].endswith("-1")
    assert not ids[3].startswith("rag-7")


def test_without_a_runner_calls_are_made_without_limits(connect):
    """An operator works outside any runner, too."""
    with FakeChatServer() as server:
        caller = connect(server)
        answer = aio.run(caller.call(PATH, BODY))

    assert answer.attempts == 1


def test_the_key_is_in_no_error_log_or_pickle(connect, context, wire, monkeypatch, caplog):
    """A server that repeats the key in status, header and body finds it nowhere on our side."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY)
    escaped = json.dumps({"error": {"message": f"bad {KEY}"}}).replace("/", "\\/")
    echoes = [
        wire.whole(f"bad key {KEY}", f"400 {KEY}", X_Key=KEY),
        wire.whole(escaped, "401 X"),
        wire.whole({"error": f"Bearer {KEY}"}, "403 X"),
        wire.whole("", "302 X", Location=f"http://else/?key={KEY.replace('/', '%2F')}"),
        wire.whole(f"<{KEY}>"),
        wire.whole({"error": KEY}),
        f"HTTP/1.1 {KEY}\r\n\r\n".encode(),
        f"{KEY}\r\n\r\n".encode(),
    ]
    server = wire.serve(*([each] for each in echoes))
    caller = connect(server, key=KeySource(env="MY_KEY"), attempts=1)
    shown = [repr(caller), repr(context.slots)]

    for _ in echoes:
        with pytest.raises((CompletionError, StopRun)) as caught:
            ask(caller, context)
        logging.getLogger("test").error("failed", exc_info=caught.value)
        shown += everything_about(caught.value)
        shown.append(context.slots.last_error(server.endpoint))

    assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {KEY}"}
    assert "cAnArY" not in "".join(shown) + caplog.text
    assert "[key]" in "".join(shown)
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps(caller)


def everything_about(error):
    """Return all texts that an exception leads to, its hidden context included."""
    seen, texts = [error], []
    for each in seen:
        texts += [*traceback.format_exception(each), repr(each), repr(vars(each))]
        texts.append(repr(pickle.dumps(each)))
        seen += [more for more in (each.__cause__, each.__context__) if more is not None]
    return texts


def test_a_missing_key_is_told_before_anything_is_sent(connect, monkeypatch):
    """A worker without the variable refuses to start rather than ask without a key."""
    monkeypatch.delenv("MY_KEY", raising=False)

    with pytest.raises(SetupError, match="MY_KEY"):
        connect("http://gpu-0/v1", key=KeySource(env="MY_KEY"))


@pytest.mark.parametrize(
    ("endpoints", "options"),
    [
        ([], {}),
        (["gpu-0"], {}),
        (["http://gpu-0/v1"], {"attempts": 0}),
        (["http://gpu-0/v1"], {"max_outage_s": 0}),
        (["http://gpu-0/v1"], {"tokens_per_minute": 0}),
    ],
)
def test_what_could_never_work_is_refused(connect, endpoints, options):
    """Nonsense is told when the caller is made."""
    with pytest.raises(PlanError):
        connect(*endpoints, **options)


def test_one_server_given_twice_is_one(connect):
    """Spellings of one address are one endpoint, in the order given; the repr tells them."""
    caller = connect("http://B/v1/", "http://a/v1", "http://b/v1")

    assert caller.endpoints == ("http://b/v1", "http://a/v1")
    assert repr(caller).startswith("<Caller of http://b/v1, http://a/v1: 0 calls under way")
