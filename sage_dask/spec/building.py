"""From one entry of a specification to the source, operator or sink that it declares."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from sage_dask.errors import SageError, SpecError, did_you_mean, listed
from sage_dask.spec.annotations import fits, hints_of, wanted
from sage_dask.spec.document import Marked
from sage_dask.spec.references import is_reference, resolve
from sage_dask.spec.words import Role, unknown_word

# The one parameter whose text is a reference; any other text stays a text.
FUNCTION = "function"


def build(role: Role, word: str, parameters: Marked, folder: Path | None) -> Any:
    """Make the source, operator or sink that one entry declares.

    Args:
        role: What is wanted in this place.
        word: A word of the role, or ``module:Class``.
        parameters: The entry's value: a mapping, or null for no parameters.
        folder: Where references are looked up first.

    Raises:
        SpecError: The word, a parameter's name or its value is refused.
    """
    cls = _class(role, word, parameters, folder)
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
        name: _value(word, name, value, hints.get(name, Any), folder)
        for name, value in given.items()
    }
    try:
        return cls(**values)
    except Exception as error:
        # The class is the user's as often as ours, and may raise whatever it likes.
        kind = "" if isinstance(error, SageError) else f"{type(error).__name__}: "
        raise parameters.key_fault(f"{word}: {kind}{error}") from error


def parameters_of(cls: type) -> tuple[Field[Any], ...]:
    """Return the constructor's parameters; none for a class that is no dataclass."""
    return tuple(field for field in fields(cls) if field.init) if is_dataclass(cls) else ()


def _class(role: Role, word: str, entry: Marked, folder: Path | None) -> type:
    if word not in role.words and not is_reference(word):
        raise entry.key_fault(unknown_word(role, word))
    try:
        cls: type = resolve(role.words.get(word, word), None if word in role.words else folder)
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


def _value(word: str, name: str, given: Marked, hint: Any, folder: Path | None) -> Any:
    value = given.plain
    if name == FUNCTION and isinstance(value, str):
        try:
            value = resolve(value, folder)
        except SpecError as error:
            raise given.fault(f"{word}: {error}") from error
    if not fits(value, hint):
        shown = given.shown if value == given.plain else repr(value)
        raise given.fault(
            f"{word}: parameter {name!r} is {shown}, and what is wanted is {wanted(hint)}"
        )
    return value
