"""What model servers' answers mean."""

from __future__ import annotations

import pytest

from sage_dask.doctor.finding import Mark
from sage_dask.doctor.servers import (
    ServerAnswer,
    ServerQuestion,
    scheduler_metrics,
    server_findings,
)
from sage_dask.endpoint.gauges import Gauges
from sage_dask.endpoint.secret import KeySource

URL = "http://gpu-0:8000/v1"
ASKED = ServerQuestion(URL, ("qwen",))
WITH_KEY = ServerQuestion(URL, ("qwen",), KeySource(env="RAG_KEY"))
LOAD = Gauges(3, 0, 0.25)
WELL = ServerAnswer(("qwen",), latency_ms=4, gauges=LOAD)
NO_KEY = ServerAnswer(key_fault="api_key_env='RAG_KEY': no key there; export it", gauges=LOAD)


def only(findings, mark):
    """Return the one finding with a mark; it says what to do."""
    (found,) = [finding for finding in findings if finding.mark is mark]
    assert found.advice
    return found


def test_a_server_that_is_well_says_so_from_here_and_from_workers():
    """Nodes that were told the same share a line, with the slowest of their times."""
    slow = ServerAnswer(("qwen",), latency_ms=30)

    findings = list(server_findings(ASKED, WELL, [("b", WELL), ("a", slow)]))

    assert [finding.mark for finding in findings] == [Mark.OK] * 3
    assert [finding.value for finding in findings] == [
        "here: answers in 4 ms, has qwen",
        "load: 3 requests running, 0 waiting, KV cache 25% full",
        "on a, b: answers in 30 ms, has qwen",
    ]


@pytest.mark.parametrize(
    ("question", "answer", "value", "advice"),
    [
        (ASKED, ServerAnswer(fault="connection refused"), "connection refused", "sage-dask serve"),
        (ASKED, ServerAnswer(("qwem",), gauges=LOAD), "no model 'qwen'", "did you mean 'qwem'?"),
        (ASKED, ServerAnswer(fault="is 401", status=401), "wants a key", "api_key_env"),
        (WITH_KEY, ServerAnswer(fault="is 403", status=403), "refuses the key", "what RAG_KEY"),
        (WITH_KEY, NO_KEY, "no key there", "export it"),
    ],
)
def test_a_server_that_can_not_be_used_fails(question, answer, value, advice):
    """What was found, and what to do about it, here and on workers alike."""
    here = only(server_findings(question, answer), Mark.FAIL)
    there = only(server_findings(question, WELL, [("a", answer)]), Mark.FAIL)

    assert here.value.startswith("here: ")
    assert there.value.startswith("on a: ")
    assert value in here.value
    assert value in there.value
    assert advice in here.advice


def test_a_key_that_only_workers_have_is_no_fault():
    """They send the requests; that it was not asked from here is said."""
    found = only(server_findings(WITH_KEY, NO_KEY, key_is_read_here=False), Mark.NOTE)

    assert "where RAG_KEY holds no key" in found.value


def test_that_a_key_is_there_is_said_with_its_name():
    """Never more than the variable's name."""
    seen, _ = server_findings(WITH_KEY, WELL)

    assert seen.value.endswith("has qwen, RAG_KEY holds a key")


def test_a_server_without_gauges_is_noted():
    """Limits then follow refusals; of a server that is down nothing is said."""
    found = only(server_findings(ASKED, ServerAnswer(("qwen",))), Mark.NOTE)
    down = list(server_findings(ASKED, ServerAnswer(fault="connection refused")))

    assert "refused requests alone" in found.advice
    assert len(down) == 1


def test_a_long_queue_is_warned_of():
    """Others are before us; without a KV gauge nothing is said of the cache."""
    busy = ServerAnswer(("qwen",), gauges=Gauges(8, 40))

    found = only(server_findings(ASKED, busy), Mark.WARN)

    assert found.value == "load: 8 requests running, 40 waiting"


def test_gauges_that_only_we_can_read_are_warned_of():
    """The dispatcher follows them from the scheduler's machine."""
    (found,) = scheduler_metrics(ASKED, LOAD, None)

    assert found.mark is Mark.WARN
    assert list(scheduler_metrics(ASKED, LOAD, LOAD)) == []
    assert list(scheduler_metrics(ASKED, None, None)) == []
