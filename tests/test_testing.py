"""The fakes keep the contracts of what they stand for."""

from __future__ import annotations

from sage_dask import aio
from sage_dask.completion import TextModel
from sage_dask.testing import EchoModel, FakeClock


def test_echo_model_is_a_text_model_that_repeats_its_prompt():
    """A text comes back as it is, a chat as its last message."""
    model = EchoModel()

    assert isinstance(model, TextModel)
    assert aio.run(model.complete("Hi")).text == "Hi"
    assert aio.run(model.complete([{"role": "user", "content": "Ho"}])).text == "Ho"


def test_fake_clock_moves_by_hand_alone():
    """Time stands still until it is advanced, or someone sleeps on it."""
    clock = FakeClock(5.0)

    clock.advance(2.0)
    aio.run(clock.sleep(0.5))

    assert clock() == clock() == 7.5
