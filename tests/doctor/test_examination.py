"""Checks made together: none keeps another from its answer."""

from __future__ import annotations

import threading

from sage_dask.doctor.examination import Check, Subject, examine, run_checks, server_questions
from sage_dask.doctor.finding import Mark, ok
from sage_dask.doctor.servers import ServerQuestion
from sage_dask.endpoint.secret import KeySource
from sage_dask.errors import RunError
from sage_dask.operators import Embed, Generate
from sage_dask.pipeline import Pipeline

URL, OTHER = "http://gpu-0:8000/v1", "http://gpu-1:8000/v1"


def broken():
    """Fail as nobody foresaw."""
    raise ZeroDivisionError("of what?")


def refusing():
    """Fail as an error of ours."""
    raise RunError("it is off; switch it on")


def test_checks_are_answered_in_their_order():
    """The first waits for the second, so they are made at the same time."""
    done = threading.Event()

    def first():
        done.wait()
        return [ok("first", "1")]

    def second():
        done.set()
        return [ok("second", "2")]

    found = run_checks([Check("first", first, limit_s=60), Check("second", second)])

    assert [finding.what for finding in found] == ["first", "second"]


def test_a_check_that_can_not_be_made_says_so_in_one_line():
    """The others are there all the same; an error of ours is a fault of what was looked at."""
    odd, off, well = run_checks(
        [Check("odd", broken), Check("off", refusing), Check("well", lambda: [ok("well", "")])]
    )

    assert (odd.mark, odd.value) == (
        Mark.NOTE,
        "could not be checked: ZeroDivisionError: of what?",
    )
    assert (off.mark, off.value, off.advice) == (Mark.FAIL, "it is off", "switch it on")
    assert well.mark is Mark.OK


def test_a_check_that_hangs_is_given_up():
    """As one of a disk that does not answer; its thread does not keep the process."""
    end = threading.Event()

    def hang():
        end.wait()
        return []

    (found,) = run_checks([Check("disk", hang, limit_s=0)])
    end.set()

    assert found.value == "could not be checked: no answer within 0 s"


def test_servers_of_stages_are_asked_once_for_all_models():
    """Stages that share a server and a key share a question; one for --endpoint is in it."""
    pipeline = (
        Pipeline("rag")
        .stage("embed", Embed(text="text", endpoint=URL, model="minilm"))
        .stage("generate", Generate([URL, OTHER], "qwen"))
        .stage("judge", Generate(OTHER, "judge", api_key_env="RAG_KEY"))
        .stage("quote", Generate())
    )

    questions = server_questions(Subject(pipeline=pipeline, endpoints=[URL]))

    assert questions == [
        ServerQuestion(URL, ("minilm", "qwen")),
        ServerQuestion(OTHER, ("qwen",)),
        ServerQuestion(OTHER, ("judge",), KeySource(env="RAG_KEY")),
    ]


def test_a_key_that_is_none_is_left_to_the_plan():
    """It refuses the stage in its own words; the other servers are asked."""
    pipeline = (
        Pipeline("rag")
        .stage("a", Generate(OTHER, "qwen", api_key_env="no name"))
        .stage("b", Generate(URL, "qwen"))
    )

    assert server_questions(Subject(pipeline=pipeline)) == [ServerQuestion(URL, ("qwen",))]


def test_this_machine_is_always_examined():
    """Packages, machine, ports and the temporary folder, without a word of a cluster."""
    found = {finding.what for finding in examine(Subject())}

    assert {"versions", "extras", "cores", "memory", "ports", "temporary folder"} <= found
    assert "scheduler" not in found
