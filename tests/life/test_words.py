"""A life in sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sage_dask import spent
from sage_dask.endpoint.call_times import CallTimes
from sage_dask.events import (
    BatchCommitted,
    BatchFormed,
    BatchRemembered,
    JobFinished,
    JobStarted,
)
from sage_dask.journal.rows import Row
from sage_dask.life.fold import LifeBuilder
from sage_dask.life.words import sentences
from sage_dask.record import Failure, StageTiming, TaskTiming

START = JobStarted(
    "rag",
    "1234abcd",
    "on 2 Dask nodes, 2 threads",
    ["node-3"],
    2,
    {},
    ["embed", "generate"],
    "2026-01-01T00:00:00+00:00",
    task_names=["embed", "generate"],
)
CALLS = CallTimes(
    calls=32,
    turn_s=3.2,
    sent_s=48.0,
    told=32,
    told_sent_s=48.0,
    queue_s=16.0,
    first_token_s=6.4,
    generation_s=22.4,
)
EMBED = TaskTiming(
    "embed",
    "node-3",
    0.3,
    0.0,
    (StageTiming("embed", 0.3, 32, 32),),
    {spent.NODE: 0.2, spent.GATE: 1.9, spent.QUEUE: 0.04, spent.SCHEDULING: 0.0001},
    "least loaded: 3/8 threads busy",
)
GENERATE = TaskTiming(
    "generate", "node-3", 2.0, 0.0, (StageTiming("generate", 2.0, 32, 32, None, CALLS),)
)
IDS = [f"q-{n}" for n in range(32)]


def committed(tasks=(EMBED, GENERATE), **facts):
    """Return the commit of the batch."""
    laps = {spent.ADMISSION: 0.012, spent.AWAY: 4.5, spent.RETURN: 0.1, spent.COMMIT: 0.02}
    counts = {"num_read": 32, "num_written": 32, "num_failed": 0, "num_filtered": 0}
    return BatchCommitted(
        **{**counts, "num_expanded": 0, **facts},
        batch=17,
        latency_s=sum(laps.values()),
        elapsed_s=15.1,
        tasks=tasks,
        failures={},
        spent=laps,
    )


def told(*events, record_id="q-17", rows=None, is_held=None, failed_file=""):
    """Return what is told of a record."""
    builder = LifeBuilder(record_id)
    for event in (START, BatchFormed(17, 12.3, IDS), *events):
        builder.add(event)
    lines = sentences(builder.life(rows), is_held=is_held, failed_file=failed_file)
    return "\n".join(lines)


def row(outputs=(), failures=(), num_filtered=0):
    """Return the journal's row of the record."""
    return {"q-17": Row(17, "q-17", b"", outputs, failures, num_filtered)}


def test_the_whole_life_is_told_in_the_order_of_time():
    """Each thing that took more than a millisecond, and nothing else."""
    assert told(committed(), JobFinished("done")) == (
        "record 'q-17' of pipeline 'rag': written\n"
        "Start 1 of the run, job 1234abcd, 2026-01-01T00:00:00+00:00:\n"
        "  Read at +12.3 s, as one of 32 records of batch 17.\n"
        "  Handed over after 12.0 ms.\n"
        "  Task 'embed' waited 1.90 s for a slot of a gate or of its model server and 200.0 ms "
        "for a node with room, and was placed on node-3: least loaded: 3/8 threads busy.\n"
        "  On its worker it took 40.0 ms for a thread.\n"
        "  Stage 'embed' took 300.0 ms for 32 records of the batch.\n"
        "  Task 'generate' ran on node-3.\n"
        "  Stage 'generate' took 2.00 s for 32 records of the batch.\n"
        "    Its calls to the model server, in the batch's mean per record: 100.0 ms waiting to be "
        "sent, 500.0 ms in the server's queue, 200.0 ms until the server's first token, 700.0 ms "
        "from the first token to the last, 100.0 ms on the way, and in the server's front end and "
        "400.0 ms until the last record of the batch had its answer.\n"
        "  On the way between driver, scheduler and workers it was 59.9 ms.\n"
        "  Back at the driver, it waited 100.0 ms for a look.\n"
        "  Waiting for its turn in the output, and being written or committed, took 20.0 ms.\n"
        "  Its batch was written at +15.1 s, 4.63 s after its reading began.\n"
        "The largest part of its time went into stage 'generate': 2.00 s, 43%.\n"
        "It was slower than 0% of the 32 records that the run wrote (P0), and their median is "
        "4.63 s."
    )


def test_a_failure_tells_stage_error_and_where_the_input_is():
    """With a journal: how often it was tried, and the whole message."""
    failure = Failure("q-17", "rerank", "ValueError", "no candidates", attempts=3)
    event = committed(failed={"q-17": "rerank: ValueError: no candidates"})

    text = told(event, rows=row(failures=[failure]), failed_file="out.failed.jsonl")
    unpublished = told(event, rows=row(failures=[failure]))
    events_alone = told(event, failed_file="out.failed.jsonl")

    assert text.startswith("record 'q-17' of pipeline 'rag': failed\n")
    assert text.endswith(
        "It failed in stage 'rerank' after 3 tries, with ValueError: no candidates\n"
        "Its input is in out.failed.jsonl."
    )
    assert "Its input is in the journal; the failed file is written when" in unpublished
    assert "  It failed in rerank: ValueError: no candidates\n" in events_alone
    assert events_alone.endswith("Its input is in out.failed.jsonl.")


def test_a_record_that_the_output_refuses_is_told_as_such():
    """Written as far as the run knew, and refused at its export."""
    failure = Failure("q-17", "write", "SinkError", "no column 'x'")

    text = told(committed(), JobFinished("done"), rows=row(failures=[failure]))

    assert "It was refused by the output as it was exported, with SinkError: no column" in text


def test_expansions_are_told_by_number_and_name():
    """Of what it became, how much was written, failed and dropped; asked for by a part, too."""
    outputs = [(f"q-17/{n}", {}) for n in range(7)]
    rows = row(outputs, [Failure("q-17/8", "keep", "KeyError", "'a'")], 2)

    text = told(committed(num_expanded=9), rows=rows, record_id="q-17/3")

    assert text.startswith(
        "record 'q-17' of pipeline 'rag': expanded into 10: 7 written, 1 failed and 2 dropped\n"
        "'q-17/3' is not the id of a record that was read."
    )
    assert "It was written as 'q-17/0', 'q-17/1', 'q-17/2', 'q-17/3', 'q-17/4' and 2 more." in text
    assert "2 of the 10 that it became were dropped by a filter." in text
    assert "'q-17/8' failed in stage 'keep', with KeyError: 'a'" in text


def test_without_a_journal_a_part_is_not_taken_for_the_whole():
    """Events tell of a record, not of each thing that it became."""
    text = told(committed(num_expanded=1, filtered=["q-17"]))

    assert "It, or a part of it, was dropped by a filter." in text


@pytest.mark.parametrize(
    ("is_held", "says"),
    [
        (True, "Not back by +12.3 s, the latest news of the run: under way.\n"),
        (None, "the latest news of the run: under way, unless the run was killed.\n"),
        (False, "It was not back when the run was killed, at +12.3 s or later."),
    ],
)
def test_what_is_under_way_says_how_to_ask_on(is_held, says):
    """The keys lead to the scheduler, as long as there may be one."""
    text = told(is_held=is_held)

    assert says in f"{text}\n"
    command = "sage-dask why \"('generate-1234abcd', 17)\" --scheduler ADDRESS"
    assert (command in text) is (is_held is not False)


def test_a_killed_start_and_what_it_remembered():
    """The next start goes on after the stage whose result was kept."""
    again = replace(START, job="5678abcd")

    text = told(
        BatchRemembered(17, 14.0, [EMBED]),
        again,
        BatchFormed(17, 0.1, IDS),
        committed(tasks=[GENERATE]),
    )

    assert "  What it had after stage 'embed' was kept at +14.0 s: no crash repeats that.\n" in text
    assert "  It was not back when its start was killed, at +14.0 s or later.\n" in text
    assert "Start 2 of the run, job 5678abcd" in text
    assert "  Read again at +0.10 s, as one of 32 records of batch 17.\n" in text
    assert "It went on after stage 'embed', the result of which start 1 had kept." in text


def test_a_failure_that_was_taken_back_is_told():
    """Its row is gone from the journal until it was tried again."""
    text = told(committed(failed={"q-17": "a: E: m"}), rows={})

    assert text.startswith("record 'q-17' of pipeline 'rag': failed in start 1, and taken back")


def test_a_row_alone_says_what_is_missing():
    """An older version kept the row, and told no ids."""
    builder = LifeBuilder("q-17")
    builder.add(START)

    text = "\n".join(sentences(builder.life(row([("q-17", {})])), is_held=None))

    assert text.startswith("record 'q-17' of pipeline 'rag': written\n")
    assert "an older version ran it, whose events tell no ids" in text


def test_a_row_that_never_set_out_says_why():
    """Refused as it was read, it was in no batch; nothing is missing of it."""
    refused = committed(failed={"q-99": "read: PriorityError: no number"})

    text = told(refused, record_id="q-99", rows={})

    assert text == (
        "record 'q-99' of pipeline 'rag': refused as it was read\n"
        "A row with this id never set out: read: PriorityError: no number."
    )
