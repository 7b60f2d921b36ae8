"""From one entry of a specification to the source, operator or sink that it declares."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from sage_dask.errors import PlanError, SageError, SpecError, did_you_mean, listed
from sage_dask.spec.annotations import fits, hints_of, wanted
from sage_dask.spec.document import Marked
from sage_dask.spec.fitting import check_fits
from sage_dask.spec.paths import Use, admitted, use_of
from sage_dask.spec.references import is_reference, resolve
from sage_dask.spec.roots import Roots
from sage_dask.spec.words import Role, unknown_word

# The one parameter whose text is a reference; any other text stays a text.
FUNCTION = "function"


@dataclass(frozen=True, slots=True)
class Scope:
    """What a specification may reach beyond itself."""

    folder: Path | None = None
    """Where references are looked up first."""
    roots: Roots | None = None
    """Where its files lie, in which case it names no code; None lets it reach what its reader can,
    since a user's own file is no more than what the user could have typed."""


def build(role: Role, word: str, parameters: Marked, scope: Scope) -> Any:
    """Make the source, operator or sink that one entry declares.

    Args:
        role: What is wanted in this place.
        word: A word of the role, or ``module:Class``.
        parameters: The entry's value: a mapping, or null for no parameters.
        scope: What the entry may reach.

    Raises:
        SpecError: The word, a parameter's name or its value is refused.
    """
    cls = _class(role, word, parameters, scope)
    known = {field.name: field for field in parameters_of(cls)}
    given = {} if parameters.value is None else dict(parameters.mapping(word))
    for name, value in given.items():
        if name not in known:
            raise value.key_fault(
                f"{word}: unknown parameter {name!r}; known are {listed(known)}"
                f"{did_you_mean(name, known)}"
            )
    missing = [name for name, field in known.items() if _is_required(field) and name not in given]
    if missing:
        raise parameters.key_fault(f"{word}: needs {listed(missing)}; give it a value")
    hints = hints_of(cls)
    values = {
        name: _value(word, name, value, hints.get(name, Any), scope)
        for name, value in given.items()
    }
    # Null, as a missing endpoint, is no server.
    is_served = values.get("endpoint") is not None
    for name, value in given.items():
        use = use_of(word, name, is_served=is_served)
        if use is not None and isinstance(values[name], str):
            values[name] = _admitted(word, name, value, use, scope)
    try:
        return cls(**values)
    except Exception as error:
        # The class is the user's as often as ours, and may raise whatever it likes.
        kind = "" if isinstance(error, SageError) else f"{type(error).__name__}: "
        raise parameters.key_fault(f"{word}: {kind}{error}") from error


def parameters_of(cls: type) -> tuple[Field[Any], ...]:
    """Return the constructor's parameters; none for a class that is no dataclass."""
    return tuple(field for field in fields(cls) if field.init) if is_dataclass(cls) else ()


def _class(role: Role, word: str, entry: Marked, scope: Scope) -> type:
    if word not in role.words and not is_reference(word):
        raise entry.key_fault(unknown_word(role, word))
    if word not in role.words and scope.roots is not None:
        raise entry.key_fault(_code_refused(word))
    try:
        cls: type = resolve(
            role.words.get(word, word), None if word in role.words else scope.folder
        )
    except SpecError as error:
        raise entry.key_fault(str(error)) from error
    # issubclass() refuses protocols that declare properties.
    if role.base not in getattr(cls, "__mro__", ()):
        raise entry.key_fault(
            f"{word!r} is no {role.name}; give a subclass of sage_dask.{role.base.__name__}"
        )
    return cls


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _value(word: str, name: str, given: Marked, hint: Any, scope: Scope) -> Any:
    if name == FUNCTION and isinstance(given.value, str):
        return _function(word, given, hint, scope)
    check_fits(given, hint, f"{word}: parameter {name!r}")
    return given.plain


def _function(word: str, given: Marked, hint: Any, scope: Scope) -> Any:
    if scope.roots is not None:
        raise given.fault(_code_refused(given.value))
    try:
        value = resolve(given.value, scope.folder)
    except SpecError as error:
        raise given.fault(f"{word}: {error}") from error
    if not fits(value, hint):
        raise given.fault(
            f"{word}: parameter {FUNCTION!r} is {value!r}, and what is wanted is {wanted(hint)}"
        )
    return value


def _admitted(word: str, name: str, given: Marked, use: Use, scope: Scope) -> str:
    try:
        return admitted(given.value, use, scope.roots)
    except PlanError as error:
        raise given.fault(f"{word}: parameter {name!r}: {error}") from error


def _code_refused(reference: str) -> str:
    return (
        f"{reference!r} names code, which roots do not hold, so it is refused with --root; read "
        "the code, and run the file without --root if you trust it"
    )
