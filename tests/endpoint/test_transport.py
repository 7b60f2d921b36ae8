"""One request on the wire: whole answers, broken ones, late ones, and none."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from sage_dask import aio
from sage_dask.endpoint.deadlines import Deadlines
from sage_dask.endpoint.failure import Broken, Busy, Fatal, Refused, Unreachable
from sage_dask.endpoint.request import Request
from sage_dask.endpoint.secret import Secret
from sage_dask.endpoint.transport import Reply, Transport
from sage_dask.testing import FakeChatServer

KEY = "sk-canary-0123456789-secret"
BODY = {"choices": [{"message": {"content": "ok"}}]}
PLAIN = Request.of("chat/completions", {"model": "m"})
STREAMED = Request.of("chat/completions", {"model": "m"}, stream=True)


@pytest.fixture
def transport():
    """Lend the function that makes transports, which are closed afterwards."""
    made = []

    def make(key=KEY, **deadlines):
        made.append(Transport(Secret(key) if key else None, Deadlines(**deadlines)))
        return made[-1]

    yield make
    for each in made:
        aio.run(each.close())


def post(transport, server, request=PLAIN, **options):
    endpoint = server if isinstance(server, str) else server.endpoint
    return aio.run(transport.post(endpoint, request, request_id="r-1", **options))


def told(text, finish=None):
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def test_request_carries_key_id_and_body_and_brings_the_answer(transport, wire):
    """The path lies below the endpoint, the key is in its header, the id in another."""
    server = wire.serve()

    reply = post(transport(), server)

    assert reply == Reply(BODY)
    (seen,) = server.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.body == {"model": "m"}
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["x-request-id"] == "r-1"
    assert seen.headers["content-type"] == "application/json"


def test_without_a_key_no_header_is_sent(transport, wire):
    """Servers without keys get none."""
    server = wire.serve()

    post(transport(key=None), server)

    assert "authorization" not in server.seen[0].headers


def test_connections_are_kept_and_shared(transport, wire):
    """Requests in turn use one connection, of other transports on the same loop as well."""
    server = wire.serve()
    first, second = transport(), transport(key="another-secret-key")

    for each in (first, second, first):
        post(each, server)
    aio.run(first.close())
    post(second, server)

    assert server.num_connections == 1
    assert [seen.headers["authorization"][-3:] for seen in server.seen] == [
        "ret",
        "key",
        "ret",
        "key",
    ]


def test_a_closed_transport_opens_again(transport, wire):
    """Closing gives connections back; it may happen twice, and does not end the transport."""
    server = wire.serve()
    each = transport()

    post(each, server)
    aio.run(each.close())
    aio.run(each.close())

    assert post(each, server) == Reply(BODY)
    assert server.num_connections == 2


@pytest.mark.parametrize(
    ("status", "headers", "failure"),
    [
        ("429 X", {"Retry_After": "7"}, Busy("429 so sorry", 7.0)),
        ("503 X", {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, Busy("503 so sorry", 0.0)),
        ("503 X", {"Retry_After": "soon"}, Busy("503 so sorry", None)),
        ("500 X", {}, Broken("500 so sorry")),
        ("400 X", {}, Refused("400 so sorry")),
    ],
)
def test_an_error_is_told_in_the_servers_words(transport, wire, status, headers, failure):
    """Status, message and Retry-After are what the failure is made of."""
    server = wire.serve([wire.whole({"error": {"message": "so sorry"}}, status, **headers)])

    assert post(transport(), server) == failure


def test_a_redirect_is_not_followed(transport, wire):
    """The key goes where the user sent it and nowhere else; the message says where it leads."""
    elsewhere = wire.serve()
    target = f"{elsewhere.endpoint}/chat/completions"
    server = wire.serve([wire.whole("", "307 Temporary Redirect", Location=target)])

    failure = post(transport(), server)

    assert isinstance(failure, Fatal)
    assert target in failure.said
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    "script",
    [
        ["reset"],
        [],
        [b"HTTP/1.1 200 OK\r\nContent-Le"],
        [b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"choices": ['],
        [b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"choices": [', "reset"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"],
        [b"SSH-2.0-OpenSSH\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"],
        [b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"a":'],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00\x01"],
        [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain"],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"[" * 200_000],
    ],
    ids=[
        "reset",
        "closed",
        "cut head",
        "cut body",
        "reset body",
        "no last chunk",
        "no HTTP",
        "empty",
        "cut JSON",
        "no text",
        "no gzip",
        "too deep",
    ],
)
def test_a_broken_answer_is_a_broken_try(transport, wire, script):
    """Whatever comes back that is no answer is worth another try, and says what it was."""
    failure = post(transport(), wire.serve(script))

    assert isinstance(failure, Broken)
    assert 0 < len(failure.said) < 400


def test_nobody_listening_is_unreachable(transport):
    """A refused connection is told in the system's words, and no request's fault."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"

    assert post(transport(), endpoint) == Unreachable("connection refused")


def test_a_host_without_an_address_is_unreachable(transport):
    """A name that stands for nothing is told as such, in the system's words."""
    failure = post(transport(), "http://nowhere.invalid/v1")

    assert isinstance(failure, Unreachable)
    assert failure.said.startswith("no such host: ")


def test_a_server_without_encryption_is_not_sent_the_key(transport):
    """HTTPS to a server that speaks plain HTTP stops the run, and the mend is told."""
    with FakeChatServer() as server:
        failure = post(transport(), server.endpoint.replace("http:", "https:"))

    mend = "begin endpoint=... with 'http://'"
    assert failure == Fatal("its port does not speak TLS", mend)
    assert server.authorizations == []


@pytest.mark.parametrize(("answered_before", "kind"), [(False, Fatal), (True, Broken)])
def test_a_page_for_people_is_a_wrong_address(transport, wire, answered_before, kind):
    """Status 200 with a page stops the run; from a server that was fine before it may pass."""
    server = wire.serve(
        [wire.whole("<html>Log in</html>", Content_Type="text/html; charset=utf-8")]
    )

    failure = post(transport(), server, answered_before=answered_before)

    assert isinstance(failure, kind)
    assert failure.said == "the answer is no JSON: '<html>Log in</html>'"


def test_connecting_has_a_deadline_of_its_own(transport):
    """A host that does not answer is given up after ``connect_s``, and that is said."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        # The kernel completes one connection more than asked for and leaves out further ones.
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())

        failure = post(transport(connect_s=0.1), f"http://127.0.0.1:{full.getsockname()[1]}/v1")
        for each in waiting:
            each.close()

    assert failure == Unreachable("no connection within 0.1 s (raise connect_s to wait longer)")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"


@pytest.mark.parametrize(
    ("script", "deadlines", "parameter"),
    [
        (["hang"], {"first_byte_s": 0.05}, "first_byte_s"),
        ([HEAD, "hang"], {"first_byte_s": 0.05}, "first_byte_s"),
        ([HEAD + b"{", "hang"], {"idle_s": 0.05}, "idle_s"),
        (["hang"], {"total_s": 0.05}, "timeout_s"),
        ([HEAD + b"{", "hang"], {"total_s": 0.05}, "timeout_s"),
    ],
    ids=["no head", "no body", "body stops", "total", "total in the body"],
)
def test_the_deadline_that_strikes_is_told(transport, wire, script, deadlines, parameter):
    """A server that falls silent is given up, and the message says what to raise."""
    failure = post(transport(**deadlines), wire.serve(script))

    assert isinstance(failure, Broken)
    assert f"within 0.05 s (raise {parameter}" in failure.said


def test_cancelling_ends_the_request_and_is_no_failure(transport, wire):
    """A cancelled request raises as cancelled, and its connection is closed."""
    server = wire.serve(["hang"])
    each = transport()

    async def cancelled():
        task = asyncio.create_task(each.post(server.endpoint, PLAIN, request_id="r"))
        await server.arrived.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled()

    assert aio.run(cancelled())
    assert post(each, server) == Reply(BODY)
    assert server.num_connections == 2


def test_a_stream_becomes_one_body_and_its_connection_is_kept(transport, wire):
    """Events add up to the body of an answer; after the last chunk the next request follows."""
    events = [told("Hel"), told("lo", "stop"), {"choices": [], "usage": {"total_tokens": 5}}]
    script = [wire.stream_head(), *map(wire.event, events), wire.event("[DONE]"), wire.last_chunk]
    server = wire.serve(script)

    reply = post(transport(), server, STREAMED)

    assert reply.body["choices"][0]["message"]["content"] == "Hello"
    assert reply.body["choices"][0]["finish_reason"] == "stop"
    assert reply.body["usage"] == {"total_tokens": 5}
    assert server.seen[0].body["stream"] is True


@pytest.mark.parametrize("end", [[], ["reset"], [b"0\r\n\r\n"]], ids=["closed", "reset", "last"])
def test_a_stream_that_ends_too_soon_is_broken(transport, wire, end):
    """Half an answer never passes for one, even if the connection ends in good order."""
    script = [wire.stream_head(), wire.event(told("Hel")), *end]

    assert isinstance(post(transport(), wire.serve(script), STREAMED), Broken)


@pytest.mark.parametrize("end", [[], ["reset"], ["hang"], [b"0\r\n\r\n"]])
def test_a_stream_that_said_its_last_word_is_whole(transport, wire, end):
    """What happens to the connection after the end of the answer does not matter."""
    script = [wire.stream_head(), wire.event(told("Hi", "stop")), wire.event("[DONE]"), *end]

    reply = post(transport(idle_s=0.05), wire.serve(script), STREAMED)

    assert reply.body["choices"][0]["message"]["content"] == "Hi"


def test_a_stream_that_falls_silent_meets_the_idle_deadline(transport, wire):
    """Bytes keep a stream alive, silence does not."""
    script = [wire.stream_head(), wire.event(told("Hi")), "hang"]

    failure = post(transport(idle_s=0.05), wire.serve(script), STREAMED)

    assert failure == Broken(
        "no further byte of the answer within 0.05 s (raise idle_s to wait longer)"
    )


def test_waiting_for_the_first_word_of_a_stream_is_not_idling(transport, wire):
    """A server sends the head at once and the first word when it has a seat."""
    script = [wire.stream_head(), "hang"]

    failure = post(transport(idle_s=0.01, first_byte_s=0.05), wire.serve(script), STREAMED)

    assert isinstance(failure, Broken)
    assert "first_byte_s" in failure.said


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"error": {"message": "engine dead", "code": 500}}, Broken),
        ({"error": {"message": "too long", "code": 400}}, Refused),
        ("{", Broken),
        ("[1]", Broken),
        ({"choices": [7]}, Broken),
        ({"choices": 7}, Broken),
    ],
)
def test_an_error_within_a_stream_is_an_error(transport, wire, data, kind):
    """Errors and garbage in the middle of an answer fail it."""
    script = [wire.stream_head(), wire.event(told("Hi")), wire.event(data), wire.event("[DONE]")]

    assert isinstance(post(transport(), wire.serve(script), STREAMED), kind)


def test_a_server_that_does_not_stream_though_asked_is_understood(transport, wire):
    """A whole JSON answer is one, whatever was asked for."""
    assert post(transport(), wire.serve([wire.whole(BODY)]), STREAMED) == Reply(BODY)


def test_an_answer_that_repeats_the_key_loses_it(transport, wire):
    """Neither a whole answer nor one in pieces brings the key into anyone's data."""
    whole = {"choices": [{"message": {"content": f"your key is {KEY}"}}]}
    pieces = [wire.event(told(KEY[:9])), wire.event(told(KEY[9:], "stop")), wire.event("[DONE]")]
    server = wire.serve([wire.whole(whole)], [wire.stream_head(), *pieces, wire.last_chunk])
    each = transport()

    replies = [post(each, server), post(each, server, STREAMED)]

    texts = [reply.body["choices"][0]["message"]["content"] for reply in replies]
    assert texts == ["your key is [key]", "[key]"]


def test_a_key_as_short_as_a_word_is_taken_out_of_messages_only(transport, wire):
    """An answer may hold the word, an error need not."""
    whole = {"choices": [{"message": {"content": "the password is short-key"}}]}
    server = wire.serve([wire.whole(whole)], [wire.whole("<short-key>")])
    each = transport(key="short-key")

    assert post(each, server) == Reply(whole)
    assert post(each, server) == Broken("the answer is no JSON: '<[key]>'")


def test_an_endless_answer_is_cut_off(transport, wire, monkeypatch):
    """An answer without end does not fill the memory."""
    monkeypatch.setattr("sage_dask.endpoint.incoming._MOST_BYTES", 1_000)

    failure = post(transport(), wire.serve([wire.whole("x" * 5_000)]))

    assert failure == Refused("the answer has more than 1,000 bytes")


def test_an_error_with_a_good_status_is_an_error(transport, wire):
    """A proxy that wraps an error into a 200 is seen through."""
    server = wire.serve([wire.whole({"error": {"message": "overloaded", "code": 503}})])

    assert post(transport(), server) == Busy("503 overloaded")


def test_a_cookie_is_not_kept(transport, wire):
    """What a server sets for one key is not sent with another."""
    server = wire.serve([wire.whole(BODY, Set_Cookie="session=1")])
    each = transport()
    named = server.endpoint.replace("127.0.0.1", "localhost")  # Addresses get no cookies anyway.

    post(each, named)
    post(each, named)

    assert "cookie" not in server.seen[1].headers
    assert json.dumps(server.seen[1].body) == '{"model": "m"}'
