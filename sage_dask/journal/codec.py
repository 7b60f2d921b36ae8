"""Records as bytes and back, exactly, and without running anything that the bytes say.

Bytes are MessagePack.  What it has no type for travels as an extension of ours, and what
has none either is refused by the name of its field: pickle would take it, and would run
code from the folder of a run.  Sub-classes are refused too, because they would come back
as their base.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import blake2b
from typing import Any

import msgpack

from sage_dask.journal import leaves
from sage_dask.journal.entries import DIGEST_BYTES
from sage_dask.journal.leaves import Code

# Deeper data is a defect rather than data, and a cycle has no end at all.  Reading an
# extension inside an extension takes 40 kB of stack each time.
MAX_DEPTH = 64

# What MessagePack keeps as it is.  Not here: bytearray and memoryview, which it would
# return as bytes, and its own ExtType and Timestamp, which would be taken for ours.
_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


# Characters of the place that a message names.
_MAX_PLACE = 100

_COLLECTIONS = frozenset({Code.TUPLE, Code.SET, Code.FROZENSET})


class _Packers(threading.local):
    """One packer per thread: it packs into a buffer of its own."""

    def __init__(self) -> None:
        self.pack = msgpack.Packer(strict_types=True, unicode_errors="surrogatepass").pack


_packers = _Packers()


def encode(value: Any) -> bytes:
    """Return a value as bytes that ``decode`` turns into an equal value of the same types.

    Raises:
        ValueError: Something in it has no encoding; the message says where.
    """
    packed = _pack_plain(value)
    return _pack(_dressed(value, "", MAX_DEPTH, _refuse)) if packed is None else packed


def decode(data: bytes) -> Any:
    """Return the value that was encoded.

    Raises:
        ValueError: These bytes are not from ``encode``.
    """
    try:
        return _decode(data, MAX_DEPTH)
    # Damaged bytes can say anything, such as a thirteenth month.
    except Exception as error:
        raise ValueError(f"{len(data)} bytes are not a value from a journal: {error}") from error


def encode_scalars(values: Sequence[Any]) -> bytes:
    """Return what ``encode`` returns for a list of numbers, texts, bytes and None, sooner."""
    return _pack(list(values))


def digest(record: Any) -> bytes:
    """Return ``DIGEST_BYTES`` bytes that tell a record from others, in any process.

    The order of fields counts.  Of what has no encoding only the type counts.
    """
    packed = _pack_plain(record)
    if packed is None:
        packed = _pack(_dressed(record, "", MAX_DEPTH, _name_type))
    return blake2b(packed, digest_size=DIGEST_BYTES).digest()


def _pack(value: Any) -> bytes:
    packed: bytes = _packers.pack(value)
    return packed


def _pack_plain(value: Any) -> bytes | None:
    """Return the bytes of what needs no extension; None for everything else."""
    if not _is_plain(value, MAX_DEPTH):
        return None
    try:
        return _pack(value)
    except OverflowError:
        return None  # a whole number beyond 64 bits


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in _SCALARS:
        return True
    if depth == 0:
        return False
    if kind is dict:
        if not _SCALARS.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list:
        return False
    # Most values are scalars, and this loop runs in C.
    if _SCALARS.issuperset(map(type, value)):
        return True
    return all(_is_plain(item, depth - 1) for item in value)


# What to put in the place of a value that has no encoding: told why, the value, and where it is.
_Refusal = Callable[[str, Any, str], Any]


def _refuse(reason: str, value: Any, where: str) -> Any:
    where = where if len(where) <= _MAX_PLACE else where[:_MAX_PLACE] + "..."
    place = f"field {where}" if where else "the value"
    raise ValueError(
        f"{place} ({type(value).__name__}) can not be kept in a journal: {reason}; leave it out "
        "with Select(...), or make plain values of it"
    )


def _name_type(_reason: str, value: Any, _where: str) -> Any:
    kind = type(value)
    return msgpack.ExtType(Code.NAMELESS, f"{kind.__module__}.{kind.__qualname__}".encode())


def _dressed(value: Any, where: str, depth: int, refusal: _Refusal) -> Any:
    """Return a value of MessagePack's own types, with extensions for what it lacks."""
    kind = type(value)
    if kind in _SCALARS and (kind is not int or -(2**63) <= value < 2**64):
        return value
    if depth == 0:
        return refusal(f"more than {MAX_DEPTH} levels deep, or inside itself", value, where)
    if kind is dict:
        return _dressed_dict(value, where, depth - 1, refusal)
    if kind in (list, tuple, set, frozenset):
        items = [
            item
            if type(item) in _SCALARS and type(item) is not int
            else _dressed(item, f"{where}[{number}]", depth - 1, refusal)
            for number, item in enumerate(value)
        ]
        return items if kind is list else msgpack.ExtType(*_packed_collection(kind, items))
    try:
        return msgpack.ExtType(*leaves.pack_leaf(value))
    except ValueError as error:
        return refusal(str(error), value, where)


def _packed_collection(kind: type, items: list[Any]) -> tuple[int, bytes]:
    if kind is tuple:
        return Code.TUPLE, _pack(items)
    # In the order of their bytes: that of a set differs from process to process.
    members = _pack(sorted(map(_pack, items)))
    return (Code.SET if kind is set else Code.FROZENSET), members


def _dressed_dict(value: dict[Any, Any], where: str, depth: int, refusal: _Refusal) -> Any:
    dressed = {}
    for key, item in value.items():
        # Only keys of a kind that can be kept are asked for their words.
        new_key = key if type(key) is str else _dressed(key, f"{where}[key]", depth, refusal)
        place = f"{where}[{key!r}]" if where else repr(key)
        dressed[new_key] = _dressed(item, place, depth, refusal)
    if len(dressed) != len(value):
        return refusal("two of its keys have one encoding, such as two NaN", value, where)
    return dressed


def _decode(data: bytes, depth: int) -> Any:
    return msgpack.unpackb(
        data,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        ext_hook=partial(_undressed, depth),
    )


def _undressed(depth: int, code: int, payload: bytes) -> Any:
    if code not in _COLLECTIONS:
        return leaves.unpack_leaf(code, payload)
    if depth == 0:
        raise ValueError(f"more than {MAX_DEPTH} levels deep")
    items = _decode(payload, depth - 1)
    if type(items) is not list:
        raise ValueError(f"a collection of {type(items).__name__}")
    if code == Code.TUPLE:
        return tuple(items)
    members = [_decode(item, depth - 1) for item in items]
    return set(members) if code == Code.SET else frozenset(members)
