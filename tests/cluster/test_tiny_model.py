"""The tiny model: whole, the same every time, and one that transformers can run."""

from __future__ import annotations

import json

import pytest

from sage_dask.cluster import tiny_model as module
from sage_dask.cluster.tiny_model import (
    SHAPES,
    SPECIAL_TOKENS,
    is_random,
    tiny_model,
    tiny_words,
)
from sage_dask.errors import PlanError, RunError


def contents(folder):
    """Return every file below a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_model_is_made_once(tmp_path, monkeypatch):
    """The second call finds what the first one made; sizes are kept apart."""
    first = tiny_model(folder=tmp_path)
    monkeypatch.setattr(module, "_write", None)

    assert tiny_model(folder=tmp_path) == first
    assert first.parent == tmp_path
    assert list(tmp_path.iterdir()) == [first]


def test_the_same_model_is_made_everywhere(tmp_path):
    """Two machines that make it have the same weights and the same name for it."""
    here, there = (tiny_model(folder=tmp_path / name) for name in ("here", "there"))

    assert here.name == there.name
    assert contents(here) == contents(there)


def test_models_are_kept_in_the_users_cache_folder(tmp_path, monkeypatch):
    """By default they go where XDG says that caches are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    assert tiny_model().parent == tmp_path / "sage-dask" / "models"


def test_another_shape_has_another_name(tmp_path, monkeypatch):
    """A later version of sage_dask with other models does not find the old ones."""
    first = tiny_model(folder=tmp_path)
    monkeypatch.setattr(module, "_CHAT_TEMPLATE", "{{ messages }}")

    assert tiny_model(folder=tmp_path) != first


def test_a_model_for_dummy_weights_has_none(tmp_path):
    """The large shape is config and tokenizer alone; vLLM is told to make weights up."""
    names = set(contents(tiny_model("3b", folder=tmp_path)))

    assert "model.safetensors" not in names
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= names
    assert "--load-format" in tiny_words("3b")
    assert "--load-format" not in tiny_words("tiny")


def test_an_unknown_size_is_refused(tmp_path):
    """The error lists the sizes, and suggests the closest."""
    with pytest.raises(PlanError, match=r"size 'tiney'; known are .*; did you mean 'tiny'"):
        tiny_model("tiney", folder=tmp_path)


def test_a_folder_that_can_not_be_written_is_told(tmp_path):
    """The error names the folder, and how to choose another."""
    (tmp_path / "file").write_text("")

    with pytest.raises(RunError, match=r"can not be written to .*file/random.*XDG_CACHE_HOME"):
        tiny_model(folder=tmp_path / "file")


def test_an_unfinished_model_is_never_found(tmp_path, monkeypatch):
    """A model that could not be written whole leaves nothing that looks like one."""

    def fail(path, tensors):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_safetensors", fail)

    with pytest.raises(RunError, match="No space left on device"):
        tiny_model(folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_its_name_says_that_it_is_random(tmp_path):
    """Who shows its words can say that they are noise."""
    assert is_random(tiny_model(folder=tmp_path).name)
    assert not is_random("Qwen/Qwen2.5-3B-Instruct")


@pytest.mark.rag
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_transformers_runs_it(tmp_path, size):
    """All weights are found, any text survives the tokenizer, and tokens come out."""
    transformers = pytest.importorskip("transformers")
    folder = tiny_model(size, folder=tmp_path)
    every_letter = "".join(chr(number) for number in range(0x20, 0x100))
    text = f"{every_letter}  \n\x00 ☃ <|im_end|>"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(**chat, max_new_tokens=4, min_new_tokens=4)

    assert not any(loading.values()), loading
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert len(tokenizer("é☃")["input_ids"]) == len("é☃".encode())
    assert tokenizer.decode(chat["input_ids"][0]) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert answer.shape[1] == chat["input_ids"].shape[1] + 4


def test_ids_of_special_tokens_follow_the_bytes(tmp_path):
    """Config and tokenizer agree on which token ends a turn."""
    folder = tiny_model(folder=tmp_path)
    config = json.loads((folder / "config.json").read_text())
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    ids = {token["content"]: token["id"] for token in added}

    assert ids == dict(zip(SPECIAL_TOKENS, (256, 257, 258), strict=True))
    assert config["eos_token_id"] == ids["<|im_end|>"]
    assert config["vocab_size"] == SHAPES["tiny"].vocab_size == 259
