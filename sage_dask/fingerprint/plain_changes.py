"""Where two descriptions of a value differ, in words.

A difference is told at the place where it is, such as ``extra.top_k was 20, is
40``, and a long value by what surrounds its first difference: never a dump.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sage_dask.fingerprint.callables import KIND, Plain

_MOST_CHARS = 40
# Characters shown of two long texts before the first in which they differ.
_BEFORE_CHARS = 12
# What a script's functions belong to, whatever its file is called.
_SCRIPT = "__main__"
_DIGESTS_OF_CODE = ("code", "made_with")


def value_changes(where: str, old: Plain, new: Plain) -> Iterator[str]:
    """Yield each difference between two descriptions of what goes by the name ``where``."""
    if _is_told(old) and _is_told(new) and _is_same_thing(old, new):
        yield from _told_changes(where, old, new)
    elif _is_mapping(old) and _is_mapping(new):
        for key in dict.fromkeys((*old, *new)):
            yield from _item_changes(f"{where}.{key}", key, old, new)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from value_changes(f"{where}[{place}]", before, after)
    elif not _is_equal(old, new):
        yield _was_is(where, old, new)


def holds_code(value: Plain) -> bool:
    """Tell whether a description has the digest of some code in it."""
    if isinstance(value, dict):
        is_code = KIND in value and bool(value.get("code"))
        return is_code or any(map(holds_code, value.values()))
    return isinstance(value, list) and any(map(holds_code, value))


def without_code(value: Plain) -> Plain:
    """Return a description without digests of code, which mean nothing to another Python."""
    if isinstance(value, list):
        return [without_code(item) for item in value]
    if not isinstance(value, dict):
        return value
    is_told = KIND in value
    return {
        key: "" if is_told and key in _DIGESTS_OF_CODE else without_code(item)
        for key, item in value.items()
    }


def is_same_name(old: str, new: str) -> bool:
    """Tell whether two ``module:name`` are the same; a script's module may have any name."""
    (old_module, _, old_name), (new_module, _, new_name) = old.partition(":"), new.partition(":")
    return old_name == new_name and (
        old_module == new_module or _SCRIPT in (old_module, new_module)
    )


def bare(reference: str) -> str:
    """Return the name in ``module:name``."""
    return reference.rpartition(":")[2].rpartition("<locals>.")[2]


def shown(value: Plain) -> str:
    """Return a value for people, shortened."""
    return _cut(_words(value))


def _is_told(value: Plain) -> bool:
    return isinstance(value, dict) and KIND in value


def _is_mapping(value: Plain) -> bool:
    return isinstance(value, dict) and KIND not in value


def _is_same_thing(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Tell whether two that stand for values are of the same kind and name."""
    if old[KIND] != new[KIND]:
        return False
    # A function may be called otherwise, but in another module its names mean other things.
    is_same_code = old[KIND] == "function" and old["code"] and old["code"] == new["code"]
    before, after = str(old["name"]), str(new["name"])
    if is_same_code:
        before, after = before.partition(":")[0] + ":", after.partition(":")[0] + ":"
    return is_same_name(before, after)


def _told_changes(where: str, old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    kind, name = new[KIND], bare(new["name"])
    if old.get("code") != new.get("code"):
        yield f"the code of {'function' if kind == 'function' else 'class'} {name!r} changed"
    if old.get("made_with") != new.get("made_with"):
        yield f"what function {name!r} was made with changed"
    if kind in ("long", "hidden"):
        if old != new:
            yield f"{where} changed{_sizes(old, new)}"
    elif old.get("text") != new.get("text"):
        yield _was_is(where, old, new)
    yield from value_changes(where, old.get("settings", {}), new.get("settings", {}))


def _sizes(old: dict[str, Any], new: dict[str, Any]) -> str:
    if old[KIND] == "hidden":
        return "; it is not shown"
    return f", {old['size']:,} long before and {new['size']:,} now"


def _item_changes(where: str, key: str, old: Plain, new: Plain) -> Iterator[str]:
    if key not in old:
        yield f"{where} was not given, is {shown(new[key])}"
    elif key not in new:
        yield f"{where} was {shown(old[key])}, is not given"
    else:
        yield from value_changes(where, old[key], new[key])


def _is_equal(old: Plain, new: Plain) -> bool:
    # As Python has it, where 1 is 1.0; but True is not 1, which servers tell apart.
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


def _was_is(where: str, old: Plain, new: Plain) -> str:
    was, now = _words(old), _words(new)
    if was == now:
        # Two of one name from two modules, say.
        was, now = (_full_name(each) for each in (old, new))
    was, now = _apart(was, now)
    return f"{where} was {_cut(was)}, is {_cut(now)}"


def _words(value: Plain) -> str:
    if not _is_told(value):
        return repr(value) if isinstance(value, str | bool | None) else json.dumps(value)
    kind, name = value[KIND], bare(value["name"])
    if kind == "hidden":
        return "a value that is not shown"
    if kind == "long":
        return f"{name} of {value['size']:,}"
    if kind == "value":
        return str(value["text"])
    return name if kind in ("function", "class") else f"{name}(...)"


def _full_name(value: Plain) -> str:
    return str(value["name"]) if _is_told(value) else json.dumps(value)


def _apart(old: str, new: str) -> tuple[str, str]:
    """Return two texts from shortly before their first difference on, if they are long."""
    if max(len(old), len(new)) <= _MOST_CHARS:
        return old, new
    pairs = enumerate(zip(old, new, strict=False))
    first = next((place for place, (a, b) in pairs if a != b), min(len(old), len(new)))
    start = max(first - _BEFORE_CHARS, 0)
    dots = "..." if start else ""
    return dots + old[start:], dots + new[start:]


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else text[: _MOST_CHARS - 3] + "..."
