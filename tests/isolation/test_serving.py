"""The subprocess's side of the conversation, held in this process."""

from __future__ import annotations

import threading
from multiprocessing.connection import Pipe

import cloudpickle

from sage_dask.isolation.serving import serve
from sage_dask.operators.basic import Map
from sage_dask.stage import Operator


def conversation(*messages):
    """Return the answers to some messages, after which the other end is closed."""
    ours, theirs = Pipe()
    for message in messages:
        ours.send_bytes(message)
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    answers = [cloudpickle.loads(ours.recv_bytes()) for _ in messages]
    ours.close()
    thread.join()
    theirs.close()
    return answers


def test_every_message_has_one_answer():
    """Made ready, a batch, the end: three messages, three answers."""
    program = cloudpickle.dumps(Map(lambda record: {"x": 2 * record["x"]}))

    ready, worked, ended = conversation(program, cloudpickle.dumps([{"x": 1}, {"x": 2}]), b"")

    assert worked.outcomes == [{"x": 2}, {"x": 4}]
    assert (ready.error, worked.error, ended.error) == (None, None, None)


def test_it_ends_when_the_other_end_is_closed():
    """A parent that goes without a word leaves nobody waiting."""
    (ready,) = conversation(cloudpickle.dumps(Map(lambda record: record)))

    assert ready.error is None


def test_it_ends_after_a_set_up_that_failed():
    """An operator that is not ready is given no batch."""

    class Broken(Operator):
        def setup(self):
            raise ValueError("no model")

    (answer,) = conversation(cloudpickle.dumps(Broken()))

    assert str(answer.error) == "ValueError: no model"


def test_what_can_not_be_read_fails_the_batch_alone():
    """A message that is no pickle is answered with an error, and the next one is worked on."""
    program = cloudpickle.dumps(Map(lambda record: record))

    _, broken, worked = conversation(program, b"no pickle", cloudpickle.dumps([{"x": 1}]))

    assert broken.error is not None
    assert worked.outcomes == [{"x": 1}]
