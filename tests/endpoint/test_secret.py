"""The key is used and never shown."""

from __future__ import annotations

import base64
import copy
import html
import json
import logging
import pickle
import re
import traceback
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_dask.endpoint.secret import KeySource, Secret
from sage_dask.errors import PlanError, SetupError

# With signs that every kind of quoting changes.
CANARY = 'sk-cAnArY/0123+4567=89&"ab<c'


@pytest.mark.parametrize("kind", ["env", "file"])
def test_a_key_is_read_where_it_is_named(kind, monkeypatch, tmp_path):
    """A variable or a file gives the key without the space around it."""
    path = tmp_path / "key"
    path.write_text(f" {CANARY}\n")
    monkeypatch.setenv("MY_KEY", f"{CANARY}\n")
    source = KeySource(env="MY_KEY") if kind == "env" else KeySource(file=str(path))

    assert source.resolve().reveal() == CANARY
    assert CANARY not in repr(source)
    assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize("value", [None, "", " \n"])
def test_a_missing_variable_is_told_by_its_name(monkeypatch, value):
    """A worker without the variable refuses to start rather than ask without a key."""
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)

    with pytest.raises(SetupError, match="api_key_env='MY_KEY'"):
        KeySource(env="MY_KEY").resolve()


def test_a_missing_file_is_told_by_its_path(tmp_path):
    """The message has the path and the system's reason."""
    path = tmp_path / "nowhere"

    with pytest.raises(SetupError, match="No such file") as caught:
        KeySource(file=str(path)).resolve()

    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"a canary-key", b"canary-key\nmore", b"canary-key\xff\xfe"])
def test_what_no_header_takes_is_refused_without_showing_it(tmp_path, content):
    """A file with more than a key in it is refused; neither error nor context has any of it."""
    path = tmp_path / "key"
    path.write_bytes(content)

    with pytest.raises(SetupError, match="which no key has") as caught:
        KeySource(file=str(path)).resolve()

    assert "canary" not in everything_about(caught.value)


@pytest.mark.parametrize(
    "given", ["sk-proj-canary0123456789abc", "sk_live_canary0123456789", "a b"]
)
def test_a_key_in_place_of_its_name_is_refused_without_showing_it(given):
    """The usual mistake does not put the key into the message that says so."""
    with pytest.raises(PlanError, match="not the key itself") as caught:
        KeySource(env=given)

    assert given not in everything_about(caught.value)


@pytest.mark.parametrize("given", [{}, {"env": "A", "file": "b"}])
def test_a_key_comes_from_one_place(given):
    """Neither and both are refused."""
    with pytest.raises(PlanError, match="one place"):
        KeySource(**given)


def test_a_secret_shows_in_no_text_of_any_kind(caplog):
    """Text, repr, format, logs and logs of errors have a placeholder."""
    secret = Secret(CANARY)
    try:
        raise ValueError(secret)
    except ValueError:
        logging.getLogger("test").exception("with %s and %r", secret, [secret])

    texts = [str(secret), repr(secret), f"{secret:>40}", f"{secret}", "%s" % secret, caplog.text]  # noqa: UP031 - old formatting is what logs use
    assert CANARY not in "".join(texts)
    assert all("[key]" in text for text in texts)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_does_not_travel(protocol):
    """No pickle and no copy holds it."""
    with pytest.raises(TypeError, match="does not travel"):
        pickle.dumps({"inside": Secret(CANARY)}, protocol)
    with pytest.raises(TypeError, match="does not travel"):
        copy.deepcopy(Secret(CANARY))
    assert not hasattr(Secret(CANARY), "__dict__")


@pytest.mark.parametrize(
    "spell",
    [
        str,
        quote,
        lambda key: quote(key, safe=""),
        lambda key: re.sub("%..", lambda code: code.group().lower(), quote(key, safe="")),
        quote_plus,
        lambda key: key.replace("/", "%2F"),
        lambda key: "".join(f"\\u{ord(sign):04X}" for sign in key),
        lambda key: "".join(f"&#{ord(sign)};" for sign in key),
        lambda key: json.dumps(key),
        lambda key: json.dumps(key).replace("/", "\\/"),
        html.escape,
        lambda key: repr([key]),
    ],
)
def test_every_spelling_of_the_key_is_taken_out(spell):
    """However a server quotes what it was sent, the key is replaced."""
    text = f"before {spell(CANARY)} after"

    redacted = Secret(CANARY).redact(text)

    assert spell(CANARY).strip("\"[]'") not in redacted
    assert "cAnArY" not in redacted
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")


@given(before=st.binary(max_size=12), after=st.binary(max_size=12), is_url=st.booleans())
def test_the_key_is_found_inside_base64(before, after, is_url):
    """Wherever it begins in what was encoded, hardly a bit of the key is left."""
    encode = base64.urlsafe_b64encode if is_url else base64.b64encode
    encoded = encode(before + CANARY.encode() + after).decode()

    redacted = Secret(CANARY).redact(encoded)

    assert "[key]" in redacted
    # Besides the key and what is around it, at most a sign on each side with some of its bits.
    assert len(redacted) <= len(encoded) - len(CANARY) * 4 // 3 + len("[key]") + 4


def test_an_answer_is_only_changed_by_a_key_that_can_be_nothing_else():
    """A long key is taken out of answers; a word given as a key is left in them."""
    answer = json.dumps({"text": f"EMPTY {CANARY} x"}).encode()

    assert Secret("EMPTY").redact_answer(answer) == answer
    assert Secret("x").redact("mixed") == "mixed"
    assert json.loads(Secret(CANARY).redact_answer(answer)) == {"text": "EMPTY [key] x"}


def everything_about(error):
    """Return all texts that an exception leads to, its hidden context included."""
    seen, texts = [error], []
    for each in seen:
        texts += [*traceback.format_exception(each), repr(each), repr(vars(each))]
        texts.append(repr(pickle.dumps(each)))
        seen += [more for more in (each.__cause__, each.__context__) if more is not None]
    return "".join(texts)
