"""Functions, methods and what is made of them, as plain data.

Each is told by its name, a digest of what it does, and a digest of what it was
made with: defaults and the values that a closure holds.  These are not written
out, since any of them may be a secret.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any, TypeAlias

from sage_dask.fingerprint.code_digest import digest, function_code

Plain: TypeAlias = Any
"""None, bool, int, finite float, str, and lists and dicts of these."""
Describe: TypeAlias = Callable[[object], Plain]
"""What describes the values inside a value."""

KIND = "$"
"""Key of a dict that stands for a value that JSON has no form for."""

_SECRET = re.compile(
    r"(?:\A|[_-])(?:api[_-]?key|secret|password|passwd|credentials?|authorization"
    r"|(?:access|auth|bearer|api|hf)_?token)(?:\Z|[_-])|\Atoken\Z",
    re.IGNORECASE,
)


def told(kind: str, what: Any, **more: Plain) -> Plain:
    """Return what stands for a value of another kind: the kind, the name of ``what``, and more."""
    return {KIND: kind, "name": reference(what), **more}


def reference(thing: Any) -> str:
    """Return ``module:name`` of a class or function; ours do without the module, which may move."""
    module = str(getattr(thing, "__module__", None) or "builtins")
    name = str(getattr(thing, "__qualname__", type(thing).__qualname__))
    own = __name__.partition(".")[0]
    return f"{own if module.partition('.')[0] == own else module}:{name}"


def is_secret(name: str) -> bool:
    """Tell whether what goes by this name is a key or a password, by the look of the name."""
    return _SECRET.search(name) is not None


def _function(of: Describe, function: FunctionType) -> Plain:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    closure = [_content(of, cell) for name, cell in cells if not is_secret(name)]
    named = function.__kwdefaults__ or {}
    code = function_code(function)
    return told(
        "function",
        function,
        code=digest(code) if code else "",
        made_with=digest([of(function.__defaults__), of(named), closure]),
    )


def _content(of: Describe, cell: Any) -> Plain:
    try:
        return [of(cell.cell_contents)]
    except ValueError:
        # A variable that was not assigned yet.
        return []


def _built_in(of: Describe, function: Any) -> Plain:
    owner = getattr(function, "__self__", None)
    is_bound = owner is not None and not isinstance(owner, ModuleType)
    made_with = digest(of(owner)) if is_bound else ""
    return told("function", function, code="", made_with=made_with)


def _method(of: Describe, method: MethodType) -> Plain:
    settings = {"function": of(method.__func__), "object": of(method.__self__)}
    return told("made", MethodType, settings=settings)


def _partial(of: Describe, made: functools.partial[Any]) -> Plain:
    settings = {"function": of(made.func), "args": of(made.args), "keywords": of(made.keywords)}
    return told("made", functools.partial, settings=settings)


def _getter(of: Describe, getter: Any) -> Plain:
    return told("made", type(getter), settings={"args": of(getter.__reduce__())})


def _cached(of: Describe, function: Any) -> Plain:
    return of(function.__wrapped__)


_C_FUNCTIONS = (
    *(BuiltinFunctionType, MethodDescriptorType),
    *(MethodWrapperType, WrapperDescriptorType),
)

WAYS: Mapping[Any, Callable[[Describe, Any], Plain]] = {
    FunctionType: _function,
    MethodType: _method,
    _C_FUNCTIONS: _built_in,
    functools.partial: _partial,
    functools._lru_cache_wrapper: _cached,
    (operator.itemgetter, operator.attrgetter, operator.methodcaller): _getter,
}
"""How what can be called is described, by type; objects with a ``__call__`` are none of them."""
