"""The timed server over real sockets: routes, faults, outages and counts."""

from __future__ import annotations

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import pytest

from sage_dask.cluster.timed_server import TimedOptions, TimedServer
from sage_dask.errors import PlanError

# What a client sees of a connection that is cut, at the start or within the answer.
BROKEN = (ConnectionError, http.client.IncompleteRead)


@pytest.fixture(scope="module")
def shared():
    """Lend one quick server to all tests that leave no mark on it."""
    with TimedServer(latency_s=0.0) as server:
        yield server


def test_a_pipelines_server_is_a_with_block_away(chat):
    """It answers inside, and not outside."""
    with TimedServer(latency_s=0.0) as server:
        answer = chat(server, model="timed")

    assert answer.status == 200
    assert answer.body["usage"]["completion_tokens"] == 4
    with pytest.raises(ConnectionRefusedError):
        chat(server)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_engine_of_tokens_answers_as_well(chat, is_streamed):
    """Without a latency the answer takes as many steps as it has tokens."""
    with TimedServer(step_s=0.001) as server:
        answer = chat(server, stream=is_streamed, stream_options={"include_usage": True})

    last = answer.events[-1] if is_streamed else answer.body
    assert last["usage"]["total_tokens"] == last["usage"]["prompt_tokens"] + 4


def test_a_repeated_prefix_is_told_as_cached(chat):
    """The second time the prompt is known; that its own answers share it does not count."""
    with TimedServer(latency_s=0.0) as server:
        answers = [chat(server, "x" * 640, n=2).body["usage"] for _ in range(2)]

    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in answers]
    assert cached == [0, 160]


def seconds(metrics, name):
    """Return one of the times that a server tells."""
    return metrics[f"{name}_ms"] / 1000


def test_an_answer_tells_how_long_it_waited_and_took(chat, eventually):
    """Three at one seat for 0.2 s each wait for none, one and two others, in the server's time."""
    with TimedServer(latency_s=0.2, seats=1, request_metrics=True) as server:
        server.brown_out(float("inf"), 1000.0)  # Its time stands still until all three are there.
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(chat, server, max_tokens=8) for _ in range(3)]
            eventually(lambda: server.statistics()["waiting"] == 2)
            server.recover()
            told = [each.result().body["metrics"] for each in asked]

    told.sort(key=lambda metrics: seconds(metrics, "queue_time"))
    assert [seconds(metrics, "queue_time") for metrics in told] == pytest.approx([0.0, 0.2, 0.4])
    for metrics in told:
        # Fixed latencies have no prefill: the tokens come out at even distances.
        assert seconds(metrics, "time_to_first_token") == pytest.approx(0.2 / 8)
        assert seconds(metrics, "generation_time") == pytest.approx(0.2 * 7 / 8)
        assert seconds(metrics, "mean_itl") == pytest.approx(0.2 / 8)
        assert metrics["tokens_per_second"] == pytest.approx(8 / 0.2)


@pytest.mark.parametrize("is_streamed", [False, True])
def test_steps_are_told_as_prefill_and_generation(chat, is_streamed):
    """The first step takes in the prompt, and each further one makes a token."""
    step_s, per_token_s = 0.001, 0.00001
    fields = {"step_s": step_s, "step_per_sequence_s": 0.0, "prefill_per_token_s": per_token_s}
    with TimedServer(**fields, request_metrics=True) as server:
        answer = chat(server, stream=is_streamed, stream_options={"include_usage": True})

    last = answer.events[-1] if is_streamed else answer.body
    metrics, tokens = last["metrics"], last["usage"]["prompt_tokens"]
    assert metrics["queue_time_ms"] == 0.0
    assert seconds(metrics, "time_to_first_token") == pytest.approx(step_s + tokens * per_token_s)
    assert seconds(metrics, "generation_time") == pytest.approx(3 * step_s)
    if is_streamed:
        assert not any("metrics" in event for event in answer.events[:-1])


def test_what_one_token_or_no_time_can_not_tell_is_null_or_left_out(chat):
    """No time between tokens without a second one, and no speed without time."""
    with TimedServer(latency_s=0.0, request_metrics=True) as server:
        whole = chat(server, max_tokens=1).body["metrics"]
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        closing = chat(server, max_tokens=1, **usage).events[-1]["metrics"]

    assert (whole["mean_itl_ms"], whole["tokens_per_second"]) == (None, None)
    assert closing == {name: value for name, value in whole.items() if value is not None}


def test_times_are_told_only_where_they_are_one_answer_s(shared, chat, ask):
    """Not of several answers or prompts, not in a stream without usage, and not unless asked to."""
    with TimedServer(latency_s=0.0, request_metrics=True) as server:
        several = chat(server, n=2).body
        prompts = ask(server.url, "/v1/completions", {"prompt": ["a", "b"]}).body
        one = ask(server.url, "/v1/completions", {"prompt": ["a"]}).body
        streamed = chat(server, stream=True).events

    assert several["metrics"] is prompts["metrics"] is chat(shared).body["metrics"] is None
    assert one["metrics"]["queue_time_ms"] == 0.0
    assert not any("metrics" in event for event in streamed)


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [("503 2", 503, "2"), ("429 soon, maybe", 429, "soon, maybe"), ("500", 500, None)],
)
def test_a_planted_status_is_answered(shared, chat, fault, status, retry_after):
    """With the header as it was written."""
    answer = chat(shared, f"[[fault:{fault}]]")

    assert (answer.status, answer.body["error"]["code"]) == (status, status)
    assert answer.headers.get("retry-after") == retry_after


def test_a_date_to_retry_after_lies_ahead(shared, chat):
    """Seconds from the answer's own date, to the second."""
    headers = chat(shared, "[[fault:429 date+100]]").headers

    ahead = parsedate_to_datetime(headers["retry-after"]) - parsedate_to_datetime(headers["date"])
    assert 98 <= ahead.total_seconds() <= 101


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("fault", ["refuse", "cut"])
def test_a_cut_connection_is_seen_as_such(shared, chat, fault, is_streamed):
    """Before the answer or within it."""
    with pytest.raises(BROKEN):
        chat(shared, f"[[fault:{fault}]]", stream=is_streamed)


def test_a_truncated_answer_is_shorter_than_it_says(shared, chat):
    """The connection is closed in good order, and too early."""
    with pytest.raises(http.client.IncompleteRead):
        chat(shared, "[[fault:truncated]]")


def test_a_truncated_stream_has_no_end(shared, chat):
    """All that is sent is well-formed; the mark of the end is missing."""
    answer = chat(shared, "[[fault:truncated]]", stream=True)

    assert len(answer.events) == 2
    assert b"[DONE]" not in answer.content


@pytest.mark.parametrize("is_streamed", [False, True])
def test_wrong_json_comes_with_status_200(shared, chat, is_streamed):
    """Only who reads it finds out."""
    answer = chat(shared, "[[fault:wrong-json]]", stream=is_streamed)

    assert answer.status == 200
    with pytest.raises(ValueError, match="Unterminated string"):
        _ = answer.events if is_streamed else answer.body


@pytest.mark.parametrize("is_streamed", [False, True])
def test_an_empty_answer_has_no_choices(shared, chat, is_streamed):
    """Everything else is as always."""
    answer = chat(shared, "[[fault:empty]]", stream=is_streamed)

    bodies = answer.events if is_streamed else [answer.body]
    assert bodies
    assert not any(body["choices"] for body in bodies)


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("fault", ["hang", "hang-during"])
def test_a_client_waits_in_vain(shared, chat, fault, is_streamed):
    """Until its own deadline."""
    with pytest.raises(TimeoutError):
        chat(shared, f"[[fault:{fault}]]", stream=is_streamed, timeout_s=0.3)


def test_an_unknown_fault_is_told(shared, chat):
    """A mistyped marker must not pass for a healthy run."""
    answer = chat(shared, "[[fault:hnag]]")

    assert answer.status == 400
    assert "did you mean 'hang'" in answer.body["error"]["message"]


def test_later_tries_go_through_and_the_ledger_knows(chat):
    """The first two tries of a request are refused, the third answered; each is counted."""
    with TimedServer(latency_s=0.0) as server:
        statuses = [chat(server, "[[id:q7]] [[fault:503 x2]]").status for _ in range(3)]
        chat(server, headers={"x_request_id": "h1"})
        ledger = server.ledger()

    assert statuses == [503, 503, 200]
    assert ledger == {
        "q7": {"received": 3, "answered": 1},
        "h1": {"received": 1, "answered": 1},
    }


def test_a_script_strikes_by_number(chat):
    """Rules need no marker in the prompt."""
    script = {"faults": [{"fault": "429 1", "numbers": [2]}]}
    with TimedServer(latency_s=0.0, script=script) as server:
        assert [chat(server).status for _ in range(3)] == [200, 429, 200]


def test_a_wrong_script_does_not_start():
    """And leaves nothing running."""
    before = set(threading.enumerate())

    with pytest.raises(PlanError, match="no kind 'bad'"):
        TimedServer(script={"faults": [{"fault": "bad"}]}).start()

    assert set(threading.enumerate()) <= before


def test_a_full_queue_answers_503_in_vllms_words(chat, eventually):
    """As many as may run or wait are taken; one more is turned away and counted."""
    with TimedServer(latency_s=1000.0, seats=1, max_queued=2) as server:
        with ThreadPoolExecutor(2) as pool:
            held = [pool.submit(chat, server) for _ in range(2)]
            eventually(lambda: server.statistics()["waiting"] == 1)
            refused = chat(server)
            server.outage(0.0)
        assert all(isinstance(each.exception(), BROKEN) for each in held)

    assert refused.status == 503
    assert refused.body["error"]["type"] == "Service Unavailable"
    assert "retry-after" not in refused.headers


def test_the_key_guards_the_api_and_nothing_else(ask):
    """401 without it or with another; metrics and health are open, as with vLLM."""
    body = {"prompt": "hi"}
    with TimedServer(latency_s=0.0, api_key="right") as server:
        answers = [
            ask(server.url, "/v1/completions", body, Authorization=f"Bearer {key}")
            for key in ("right", "wrong", "")
        ]
        models = ask(server.url, "/v1/models")
        health = ask(server.url, "/health")

    assert [answer.status for answer in answers] == [200, 401, 401]
    assert answers[1].body == {"error": "Unauthorized"}
    assert (models.status, health.status) == (401, 200)


def test_a_client_that_goes_away_frees_its_seat(chat, eventually):
    """What nobody waits for is not computed, and counted as aborted."""
    with TimedServer(latency_s=1000.0) as server:
        for is_streamed in (False, True):
            with pytest.raises(TimeoutError):
                chat(server, stream=is_streamed, timeout_s=0.2)

        eventually(lambda: server.statistics()["running"] == 0)


def test_an_outage_cuts_refuses_and_ends(chat, eventually):
    """Who waits is cut off, who comes is refused; then all is well, and nothing runs any more."""
    with TimedServer(latency_s=1000.0) as server:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(chat, server)
            eventually(lambda: server.statistics()["running"] == 1)
            server.outage(float("inf"))
            assert isinstance(waiting.exception(), BROKEN)

        with pytest.raises(ConnectionRefusedError):
            chat(server)
        server.recover()

        eventually(lambda: answers(chat, server))
        assert server.statistics()["running"] == 0


def answers(chat, server):
    """Return whether a server refuses a prompt in words rather than by being away."""
    try:
        return chat(server, model="other").status == 404
    except ConnectionError:
        return False


@pytest.mark.parametrize("fault", ["down 0.2", "die"])
def test_a_request_can_take_the_server_down(chat, eventually, fault):
    """For a while, or until it is told to recover."""
    with TimedServer(latency_s=0.0) as server:
        with pytest.raises(BROKEN):
            chat(server, f"[[fault:{fault}]]")
        if fault == "die":
            server.recover()

        eventually(lambda: answers(chat, server))


def test_a_brown_out_slows_what_is_under_way(chat, eventually):
    """Nothing moves at an infinite factor; when it ends, the rest takes its time."""
    with TimedServer(latency_s=0.05) as server:
        server.brown_out(float("inf"), 1000.0)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(chat, server)
            eventually(lambda: server.statistics()["running"] == 1)
            server.recover()

            assert waiting.result().status == 200


def test_seats_are_never_exceeded_and_the_load_is_measured(chat):
    """Twelve requests at three seats: never more than three, each there for its whole time."""
    with TimedServer(latency_s=0.05, seats=3) as server:
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda n: chat(server, f"{n}"), range(12)))
        counts = server.statistics()

    assert counts["most_running"] == 3
    assert counts["running_s"] >= 12 * 0.0499
    assert (counts["received"], counts["answered"]) == (12, 12)
    assert 0 < counts["utilisation"] <= 1


def test_it_can_be_watched_and_steered_over_http(ask, chat, eventually):
    """What methods do here, another process does by requests."""
    with TimedServer(latency_s=0.0) as server:
        chat(server, headers={"x_request_id": "a"})

        assert ask(server.url, "/timed/ledger").body == server.ledger()
        assert ask(server.url, "/timed/stats").body["answered"] == 1
        assert ask(server.url, "/timed/reset", {}).status == 200
        assert server.ledger() == {}
        assert ask(server.url, "/timed/brownout", {"factor": 2, "for_s": 0.01}).status == 200
        assert ask(server.url, "/timed/brownout", {"factor": 0, "for_s": 1}).status == 400
        assert ask(server.url, "/timed/outage", {}).status == 400
        assert ask(server.url, "/timed/outage", {"for_s": 0.1}).status == 200
        eventually(lambda: answers(chat, server))


def test_it_tells_where_it_is():
    """Addresses are those that others are given."""
    with TimedServer(TimedOptions(seats=7)) as server:
        assert server.endpoint == f"http://127.0.0.1:{server.port}/v1"
        assert server.metrics == f"http://127.0.0.1:{server.port}/metrics"
        assert repr(server) == f"<TimedServer {server.url} running, 7 seats>"
    assert "stopped" in repr(server)


def test_before_it_starts_there_is_nothing_to_ask():
    """The message says what is missing."""
    server = TimedServer()
    try:
        with pytest.raises(RuntimeError, match="use it in 'with'"):
            server.statistics()
    finally:
        server.close()
