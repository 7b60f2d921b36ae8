"""Which request meets which fault."""

from __future__ import annotations

import json

import pytest

from sage_dask.cluster.timed_server.faults import Fault, Incoming, load_script, marked_fault
from sage_dask.errors import PlanError


def struck(script, count=20, **changes):
    """Return the numbers of the requests that a script strikes."""
    loaded = load_script(script)
    numbers = range(1, count + 1)
    incoming = (
        Incoming(**{"name": str(n), "number": n, "attempt": 1, "now_s": n / 10, **changes})
        for n in numbers
    )
    return [each.number for each in incoming if loaded.choose(each)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("503", Fault("503")),
        ("429 date+3", Fault("429", "date+3")),
        ("500 next tuesday x2", Fault("500", "next tuesday", tries=2)),
        ("hang x1", Fault("hang", tries=1)),
        ("slow 4 2.5", Fault("slow", "4 2.5")),
    ],
)
def test_a_fault_is_a_few_words(text, fault):
    """Kind, argument, and how many tries it hits."""
    assert Fault.parse(text) == fault


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hangs", "no kind 'hangs'.*did you mean 'hang'"),
        ("200", "no kind '200'"),
        ("slow 4", "wants numbers: slow FACTOR SECONDS"),
        ("down soon", "wants numbers: down SECONDS"),
    ],
)
def test_what_is_no_fault_is_refused(text, message):
    """With the closest that is one."""
    with pytest.raises(PlanError, match=message):
        Fault.parse(text)


def test_a_prompt_asks_for_its_fault():
    """The marker may stand anywhere in the body."""
    body = json.dumps({"messages": [{"content": "do [[fault:503 2 x1]] this"}]}).encode()

    assert marked_fault(body) == Fault("503", "2", tries=1)
    assert marked_fault(b"nothing [[here]]") is None


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ({"numbers": [3, 5]}, [3, 5]),
        ({"ids": ["4"]}, [4]),
        ({"from_s": 0.5, "until_s": 0.8}, [5, 6, 7]),
        ({"limit": 2}, [1, 2]),
        ({"from_s": 0.5, "limit": 1}, [5]),
        ({"numbers": [3, 5], "ids": ["5"]}, [5]),
    ],
)
def test_all_that_a_rule_names_must_hold(rule, numbers):
    """A rule strikes those requests and no others."""
    assert struck({"faults": [{"fault": "cut", **rule}]}) == numbers


def test_a_rule_can_spare_later_tries():
    """The first two tries are struck, and the third goes through."""
    script = {"faults": [{"fault": "cut", "tries": 2}]}

    assert [len(struck(script, 1, attempt=n)) for n in (1, 2, 3)] == [1, 1, 0]


def test_chance_is_repeatable_and_as_likely_as_said():
    """A third of many, the same ones for the same seed, others for another."""
    by_seed = [
        struck({"seed": seed, "faults": [{"fault": "cut", "probability": 0.3}]}, 1000)
        for seed in (1, 1, 2)
    ]

    assert by_seed[0] == by_seed[1] != by_seed[2]
    assert 240 < len(by_seed[0]) < 360


def test_the_first_rule_that_strikes_counts():
    """Later ones are not asked, and do not count it as theirs."""
    script = load_script({"faults": [{"fault": "503", "limit": 1}, {"fault": "429", "limit": 1}]})

    faults = [script.choose(Incoming("a", n, 1, 0.0)) for n in (1, 2, 3)]

    assert faults == [Fault("503"), Fault("429"), None]


@pytest.mark.parametrize("name", ["script.yaml", "script.json"])
def test_a_script_is_a_file(tmp_path, name):
    """YAML, of which JSON is a part."""
    path = tmp_path / name
    path.write_text('{"seed": 3, "faults": [{"fault": "503 2", "numbers": [2]}]}')

    assert struck(path) == [2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("faults: [", "can not be read"),
        ("- cut", "found list; wants 'seed' and 'faults'"),
        ("fault: cut", "found 'fault'; wants 'seed' and 'faults'"),
        ("faults: [cut]", "'cut' is no rule"),
        ("faults: [{fault: cut, tires: 1}]", "has no 'tires'.*did you mean 'tries'"),
    ],
)
def test_a_file_that_is_no_script_is_refused(tmp_path, text, message):
    """The message says what is wrong in it."""
    path = tmp_path / "script.yaml"
    path.write_text(text)

    with pytest.raises(PlanError, match=message):
        load_script(path)


def test_a_missing_file_is_named(tmp_path):
    """A mistyped path must not mean a server without faults."""
    with pytest.raises(PlanError, match=r"nowhere\.yaml' can not be read"):
        load_script(tmp_path / "nowhere.yaml")
