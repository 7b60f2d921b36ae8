"""What a run would send, before anything is sent."""

from __future__ import annotations

import json

import pytest

from sage_dask import Collect, FromIterable, Pipeline
from sage_dask.errors import PlanError
from sage_dask.estimate import estimate
from sage_dask.forecast import Pace
from sage_dask.operators import Generate
from sage_dask.stage import Operator, Source
from sage_dask.testing import FakeChatServer

TEXT = """\
pipeline rag, dry run: nothing was sent
  sample      the first 4 of 1,000 records
  stage       a: 1,000 requests, prompt 2.5k tokens (2 each), completion at most 10k (10 each)
  tokens      2.5k to 12.5k
  cost        0.00500 to 0.105
  time        0:25 to 2:05 at 100 tok/s
  assumed     the other records are like the first
  assumed     no answer is in the response cache, and no request is sent again
  assumed     tokens are counted as the operator counts them without a server: by characters"""

PRICE = {"prompt": 2.0, "completion": 10.0}


class Asking(Operator):
    """Would ask for up to ten tokens per record, and must never be made ready."""

    endpoints = ("http://127.0.0.1:1/v1",)

    def __init__(self, price=None, longest=10):
        self.price = price
        self.longest = longest

    def setup(self):
        raise AssertionError("a dry run makes no client")

    def process_batch(self, records):
        raise AssertionError("a dry run sends nothing")

    def preview(self, record):
        request = {"prompt_tokens": record["n"]}
        return (
            request if self.longest is None else request | {"max_completion_tokens": self.longest}
        )


def numbers(count):
    """Return a source of records {"n": 1}, {"n": 2}, ..."""
    return FromIterable([{"n": number} for number in range(1, count + 1)])


def plan_of(source, *stages):
    """Return the plan of a pipeline with the stages ``a``, ``b``, ..."""
    pipeline = Pipeline("rag").source(source)
    for name, operator in zip("abc", stages, strict=False):
        pipeline = pipeline.stage(name, operator)
    return pipeline.sink(Collect()).plan()


def test_the_sample_stands_for_the_whole_source():
    """Sums of the first records are scaled to the number of records that there are."""
    found = estimate(plan_of(numbers(1_000), Asking(PRICE)), sample=4)

    stage = found.stages["a"]
    assert (found.num_sampled, found.num_records) == (4, 1_000)
    assert (stage.requests, stage.prompt_tokens) == (1_000, 2_500)
    assert stage.max_completion_tokens == 10_000
    assert found.tokens == (2_500, 12_500)
    assert found.cost == (pytest.approx(0.005), pytest.approx(0.105))


def test_nothing_is_sent():
    """A server that counts what it is sent sees nothing, and the prompts are made all the same."""
    with FakeChatServer() as server:
        pipeline = (
            Pipeline("rag")
            .source(FromIterable([{"text": "a" * 40}] * 50))
            .map(lambda record: {"prompt": record["text"] * 2}, name="double")
            .stage(
                "generate",
                Generate(endpoint=server.endpoint, model="m", max_tokens=100, price=PRICE),
            )
            .sink(Collect())
        )

        found = estimate(pipeline.plan(), sample=10)

        assert server.requests == []
    assert found.requests == 50
    # Eighty characters each, and a few tokens around them at most.
    assert 50 * 20 <= found.stages["generate"].prompt_tokens <= 50 * 30
    assert found.stages["generate"].max_completion_tokens == 5_000


def test_stages_before_the_first_request_are_run():
    """Filters, failures and expansions change what is sent, and the estimate knows."""

    def some(record):
        if record["n"] == 1:
            raise ValueError("odd")
        return [record] * (record["n"] % 2 * 3)

    pipeline = Pipeline("rag").source(numbers(8)).flat_map(some).stage("ask", Asking())

    found = estimate(pipeline.sink(Collect()).plan(), sample=4)

    assert (found.num_failed, found.requests) == (1, 3 * 2)
    assert "1 record of the sample, before a request" in str(found)


def test_a_record_of_which_no_request_can_be_made_is_counted():
    """What the operator refuses counts as failed, and the others are estimated."""
    source = FromIterable([{"n": 1}, {"m": 2}])

    found = estimate(plan_of(source, Asking()))

    assert (found.num_failed, found.requests) == (1, 1)


def test_a_small_source_is_known_exactly():
    """A sample that is the whole source needs no scaling, also where the source has no size."""
    found = estimate(plan_of(FromIterable(lambda: [{"n": 1}, {"n": 2}]), Asking()), sample=20)

    assert (found.num_sampled, found.num_records) == (2, 2)
    assert found.tokens == (3, 23)


def test_a_source_without_a_size_is_not_guessed():
    """Figures are of the sample alone, and the text says so."""
    found = estimate(plan_of(FromIterable(lambda: ({"n": 1} for _ in range(90))), Asking()))

    assert (found.num_records, found.requests) == (None, 20)
    assert "the source does not say how many there are" in str(found)


def test_an_empty_source_costs_nothing():
    """No record is no request and no division by zero."""
    found = estimate(plan_of(FromIterable([]), Asking(PRICE)))

    assert (found.requests, found.cost) == (0, (0, 0))
    assert "0 requests" in str(found)


def test_answers_of_any_length_have_no_upper_bound():
    """Without a limit on the answer, tokens, cost and time are given from below alone."""
    pace = Pace(tokens_per_s=10)
    found = estimate(plan_of(numbers(20), Asking(PRICE, longest=None)), pace=pace)

    assert found.tokens == (210, None)
    assert found.cost == (pytest.approx(0.00042), None)
    assert found.seconds == (21, None)
    assert "cost        0.000420 or more" in str(found)


def test_time_follows_from_the_pace():
    """Tokens per second or seats and latency give a time; the slower of both decides."""
    plan = plan_of(numbers(20), Asking())

    by_tokens = estimate(plan, pace=Pace(tokens_per_s=10)).seconds
    by_seats = estimate(plan, pace=Pace(seats=4, latency_s=8.0)).seconds
    by_both = estimate(plan, pace=Pace(10, 4, 8.0)).seconds

    assert by_tokens == (21, 41)
    assert by_seats == (40, 40)
    assert by_both == (40, 41)
    assert estimate(plan).seconds == (None, None)


@pytest.mark.parametrize(
    "given", [{"tokens_per_s": 0}, {"seats": 4}, {"latency_s": 1.0}, {"seats": -1, "latency_s": 1}]
)
def test_a_pace_that_says_nothing_is_refused(given):
    """Nought, and half of what belongs together, are mistakes."""
    with pytest.raises(PlanError, match=r"must be a positive number|go together"):
        Pace(**given)


def test_stages_behind_the_first_request_are_named_as_unknown():
    """What a later stage would send depends on answers that nobody has yet; it is not run."""
    pipeline = Pipeline("rag").source(numbers(20)).stage("a", Asking(PRICE))
    pipeline = pipeline.stage("b", Asking(PRICE), fuse=False)

    found = estimate(pipeline.sink(Collect()).plan())

    assert (tuple(found.stages), found.unknown) == (("a",), ("b",))
    assert "not known   b: what it would send" in str(found)


def test_an_operator_that_can_not_tell_is_unknown():
    """A stage of the user's own that has no preview is named, not counted as free."""

    class Silent(Asking):
        preview = None

    found = estimate(plan_of(numbers(20), Silent()))

    assert (dict(found.stages), found.unknown) == ({}, ("a",))
    assert "cost" not in str(found)


def test_without_requests_there_is_nothing_to_estimate():
    """A pipeline that sends nothing is a mistake on the command line, with its stages named."""
    plan = Pipeline("p").source(numbers(1)).map(dict, name="copy").sink(Collect()).plan()

    with pytest.raises(PlanError, match=r"'p' sends no requests \(its stages are 'copy'\)"):
        estimate(plan)
    with pytest.raises(PlanError, match="sample=0 must be at least 1"):
        estimate(plan_of(numbers(1), Asking()), sample=0)


def test_the_source_is_read_no_further_than_the_sample():
    """A source of a million rows gives the sample and is closed."""
    log = []

    class Long(Source):
        def read(self):
            try:
                for item in numbers(100).read():
                    log.append(item.id)
                    yield item
            finally:
                log.append("closed")

    estimate(plan_of(Long(), Asking()), sample=3)

    assert log == ["1", "2", "3", "closed"]


def test_the_text_and_the_plain_values_agree():
    """People get ranges and what was assumed, programs the numbers."""
    found = estimate(plan_of(numbers(1_000), Asking(PRICE)), sample=4, pace=Pace(tokens_per_s=100))

    assert str(found) == TEXT
    plain = json.loads(json.dumps(found.as_dict()))
    assert plain["tokens"] == [2_500, 12_500]
    assert plain["seconds"] == [25, 125]
    assert plain["stages"]["a"]["requests"] == 1_000
