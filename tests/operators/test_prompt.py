"""Prompts from templates and records."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.errors import PlanError
from sage_dask.operators.prompt import Prompt

RECORD = {"question": "Why?", "passages": [{"id": "p1", "text": "Because."}]}


def test_placeholders_are_what_the_prompt_reads():
    """The planner learns the needed fields from the template."""
    prompt = Prompt(text="Answer {question} from:\n{passages}")

    assert list(prompt.reads) == ["question", "passages"]
    assert list(prompt.writes) == ["prompt"]


def test_record_keeps_its_fields_and_gains_the_prompt():
    """Fields are filled in, passages as numbered context."""
    prompt = Prompt(text="Answer {question} from:\n{passages}")

    (outcome,) = prompt.process_batch([RECORD])

    assert outcome == {**RECORD, "prompt": "Answer Why? from:\n[1] p1: Because."}


def test_file_is_read_where_the_prompt_is_declared(tmp_path):
    """A pickled prompt carries its template: the worker need not have the file."""
    path = tmp_path / "prompt.txt"
    path.write_text("Q: {question}", "utf-8")
    travelled = pickle.dumps(Prompt(str(path)))
    path.unlink()

    (outcome,) = pickle.loads(travelled).process_batch([RECORD])

    assert outcome["prompt"] == "Q: Why?"


def test_missing_file_is_found_while_planning(tmp_path):
    """``check`` names the template that is not there."""
    with pytest.raises(PlanError, match=r"nowhere\.txt"):
        Prompt(str(tmp_path / "nowhere.txt")).check()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (Prompt(), "exactly one"),
        (Prompt("prompt.txt", text="{question}"), "exactly one"),
        (Prompt(text="{question}", system="Be brief."), "as_messages=True"),
        (Prompt(text="{passages}", max_context_chars=0), "no room"),
        (Prompt(text="{question.x}"), "not just a field name"),
    ],
)
def test_contradictions_are_refused(prompt, message):
    """A declaration that can not mean anything is refused with the mend."""
    with pytest.raises(PlanError, match=message):
        prompt.check()


def test_record_without_a_field_fails_alone():
    """A missing field, or passages that are none, fail their own record."""
    prompt = Prompt(text="{question} {passages}")

    missing, wrong, good = prompt.process_batch(
        [{"question": "Why?"}, {"question": "Why?", "passages": [7]}, RECORD]
    )

    assert isinstance(missing, LookupError)
    assert "'passages'" in str(missing)
    assert isinstance(wrong, TypeError)
    assert good["prompt"] == "Why? [1] p1: Because."


def test_messages_carry_the_system_text():
    """With ``as_messages`` the prompt is a chat, system message first."""
    prompt = Prompt(text="{question}", as_messages=True, system="Be {brief}.")
    prompt.check()

    (outcome,) = prompt.process_batch([RECORD])

    assert list(prompt.writes) == ["messages"]
    assert outcome["messages"] == [
        {"role": "system", "content": "Be {brief}."},
        {"role": "user", "content": "Why?"},
    ]


@given(st.text(), st.text())
def test_row_text_can_not_reach_beyond_its_place(question, passage):
    """Braces and field names in a row come out as they are, wherever they stand."""
    prompt = Prompt(text="<{question}|{hint}>")

    (outcome,) = prompt.process_batch(
        [{"question": question + "{hint}", "hint": passage + "{question}"}]
    )

    assert outcome["prompt"] == f"<{question}{{hint}}|{passage}{{question}}>"


@pytest.mark.parametrize(
    "row",
    [
        "{__class__}",
        "{0}",
        "{hint.__class__.__mro__}",
        "{{hint}}",
        "{hint!r:>100}",
        "$(id) ${HOME} `id`",
        "%s %(hint)s",
        "\\N{BULLET} \\x41",
        "{% for x in y %}{{ x }}{% endfor %}",
    ],
)
@pytest.mark.parametrize("as_messages", [False, True])
def test_adversarial_rows_come_out_as_they_are(row, as_messages):
    """No language of templates, formats or shells is spoken in a row, nor in its passages."""
    prompt = Prompt(text="{question}|{passages}", as_messages=as_messages)

    (outcome,) = prompt.process_batch([{"question": row, "passages": [{"text": row}], "hint": "H"}])

    text = outcome["messages"][0]["content"] if as_messages else outcome["prompt"]
    assert text == f"{row}|[1] {row}"
