"""A model to try a real server with: the shape of Qwen2, random weights, a byte-level tokenizer.

Its words are noise.  Server, batching, KV cache, tokenisation, streaming and
metrics around it are the real ones, and it is made in a second: the files are
simple enough to be written as they are, without torch or transformers.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_dask.errors import PlanError, RunError, did_you_mean, listed

# Ends a text, starts a turn of a chat, ends it; their ids follow those of the 256 bytes.
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_NUM_TOKENS = 256 + len(SPECIAL_TOKENS)
_PAD, _, _END_OF_TURN = range(256, _NUM_TOKENS)

# ChatML, as Qwen2 has it.
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# Begins the name of each such model, and the name under which a server has it.
_PREFIX = "random-qwen2-"

# As transformers initialises Qwen2.
_DEVIATION = 0.02


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What decides how much a model computes."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    max_position_embeddings: int = 16384
    """Longest prompt with its answer, in tokens; a token is a byte here."""
    vocab_size: int = _NUM_TOKENS
    has_weights: bool = True
    """False where the server makes them up itself (``--load-format dummy``)."""

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads


SHAPES: Mapping[str, ModelShape] = {
    "tiny": ModelShape(128, 2, 2, 1, 256),
    "small": ModelShape(256, 4, 4, 2, 768),
    # Qwen2.5-3B's own numbers, for the timing of a real one on a GPU; 12 GB as float32 on disk.
    "3b": ModelShape(2048, 36, 16, 2, 11008, 32768, 151936, has_weights=False),
}


def tiny_model(size: str = "tiny", *, folder: Path | None = None) -> Path:
    """Return the folder of a model that any server of Hugging Face models can load.

    It is made by the first call and used again by later ones, of other processes too.

    Args:
        size: One of ``SHAPES``.
        folder: Where models are kept; by default in the user's cache folder.

    Raises:
        PlanError: There is no such size.
        RunError: The folder can not be written.
    """
    if size not in SHAPES:
        raise PlanError(
            f"there is no tiny model of size {size!r}; known are {listed(SHAPES)}"
            f"{did_you_mean(size, SHAPES)}"
        )
    shape = SHAPES[size]
    texts = {name: json.dumps(value, indent=1) for name, value in _documents(shape).items()}
    kept = folder or cache_folder() / "models"
    model = kept / f"{_PREFIX}{size}-{_fingerprint(texts)}"
    if not model.exists():
        try:
            _write(model, texts, shape)
        except OSError as error:
            raise RunError(
                f"the tiny model can not be written to {model} ({error.strerror}); free some "
                "space, or name another cache folder as XDG_CACHE_HOME"
            ) from error
    return model


def tiny_words(size: str = "tiny") -> tuple[str, ...]:
    """Return what vLLM has to be told to serve such a model well."""
    # Left to itself, random sampling fills JSON with blanks until its tokens are used up.
    compact = {"backend": "xgrammar", "disable_any_whitespace": True}
    words = ("--structured-outputs-config", json.dumps(compact))
    return words if SHAPES[size].has_weights else (*words, "--load-format", "dummy")


def is_random(name: str) -> bool:
    """Return whether a model of this name was made here, so that its words are noise."""
    return name.startswith(_PREFIX)


def cache_folder() -> Path:
    """Return where files are kept that can be made again, by the XDG convention."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sage-dask"


def _write(model: Path, texts: Mapping[str, str], shape: ModelShape) -> None:
    """Write a model under another name first: a folder of the right name is whole."""
    model.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=model.parent, prefix=".unfinished-") as parent:
        unfinished = Path(parent) / model.name
        unfinished.mkdir()
        for name, text in texts.items():
            (unfinished / name).write_text(text, encoding="utf-8")
        if shape.has_weights:
            _write_safetensors(unfinished / "model.safetensors", dict(_weights(shape)))
        try:
            unfinished.rename(model)
        except OSError:
            # Somebody else was faster, and what they wrote is the same.
            if not model.exists():
                raise


def _documents(shape: ModelShape) -> dict[str, dict[str, Any]]:
    """Return everything but the weights, by file name."""
    return {
        "config.json": _config(shape),
        "generation_config.json": {"eos_token_id": _END_OF_TURN, "pad_token_id": _PAD},
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": SPECIAL_TOKENS[-1],
            "pad_token": SPECIAL_TOKENS[0],
            "model_max_length": shape.max_position_embeddings,
            "clean_up_tokenization_spaces": False,
            "chat_template": _CHAT_TEMPLATE,
        },
    }


def _config(shape: ModelShape) -> dict[str, Any]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.num_hidden_layers,
        "num_attention_heads": shape.num_attention_heads,
        "num_key_value_heads": shape.num_key_value_heads,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "vocab_size": shape.vocab_size,
        "hidden_act": "silu",
        "initializer_range": _DEVIATION,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "tie_word_embeddings": True,
        "bos_token_id": _PAD,
        "eos_token_id": _END_OF_TURN,
        "pad_token_id": _PAD,
        "dtype": "float32" if shape.has_weights else "bfloat16",
        "torch_dtype": "float32" if shape.has_weights else "bfloat16",  # Its name until 2025.
    }


def _tokenizer() -> dict[str, Any]:
    """Return a tokenizer that gives every byte a token of its own."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": 256 + place, "content": text, **flags, "special": True}
            for place, text in enumerate(SPECIAL_TOKENS)
        ],
        "normalizer": None,
        "pre_tokenizer": _byte_level(use_regex=False),
        "post_processor": None,
        "decoder": _byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {letter: byte for byte, letter in enumerate(_letters())},
            "merges": [],
        },
    }


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }


def _letters() -> Iterator[str]:
    """Yield the printable letter that stands for each byte, by the convention of GPT-2.

    Bytes that print in Latin-1 stand for themselves, the others for letters from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    unprintable = [byte for byte in range(256) if byte not in printable]
    for byte in range(256):
        yield chr(byte if byte in printable else 256 + unprintable.index(byte))


def _weights(shape: ModelShape) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield random weights under the names that Qwen2 gives them; the same ones every time."""
    random = np.random.default_rng(0)
    hidden = shape.hidden_size
    keys = shape.num_key_value_heads * shape.head_size

    def normal(*size: int) -> NDArray[np.float32]:
        return random.normal(0.0, _DEVIATION, size).astype(np.float32)

    def ones() -> NDArray[np.float32]:
        return np.ones(hidden, dtype=np.float32)

    yield "model.embed_tokens.weight", normal(shape.vocab_size, hidden)
    yield "model.norm.weight", ones()
    for number in range(shape.num_hidden_layers):
        layer = f"model.layers.{number}"
        yield f"{layer}.input_layernorm.weight", ones()
        yield f"{layer}.post_attention_layernorm.weight", ones()
        for name, width in (("q", hidden), ("k", keys), ("v", keys)):
            yield f"{layer}.self_attn.{name}_proj.weight", normal(width, hidden)
            yield f"{layer}.self_attn.{name}_proj.bias", np.zeros(width, dtype=np.float32)
        yield f"{layer}.self_attn.o_proj.weight", normal(hidden, hidden)
        yield f"{layer}.mlp.gate_proj.weight", normal(shape.intermediate_size, hidden)
        yield f"{layer}.mlp.up_proj.weight", normal(shape.intermediate_size, hidden)
        yield f"{layer}.mlp.down_proj.weight", normal(hidden, shape.intermediate_size)


def _write_safetensors(path: Path, tensors: Mapping[str, NDArray[np.float32]]) -> None:
    """Write tensors in the safetensors format: length of the header, header, raw bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}
    # Padded with spaces, so that the bytes behind it are aligned.
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.tobytes())


def _fingerprint(texts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(f"seed 0, deviation {_DEVIATION}".encode())
    for name, text in sorted(texts.items()):
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()[:12]
