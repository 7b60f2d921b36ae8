"""What is said of a value that does not fit its place: which one, what it is, what to write."""

from __future__ import annotations

from typing import Any, get_args

from sage_dask.spec.annotations import fits, is_union, item_hint, wanted
from sage_dask.spec.document import Marked


def check_fits(given: Marked, hint: Any, what: str) -> None:
    """Raise ``SpecError`` unless a value fits the annotation of its place.

    Args:
        given: The value.
        hint: The annotation.
        what: What messages call the place, such as ``"run option 'nodes'"``.
    """
    if fits(given.plain, hint):
        return
    inner, inner_hint = _innermost(given, hint)
    verb = "is" if inner is given else "holds"
    quotes = inner.in_quotes if fits("", inner_hint) else ""
    raise inner.fault(
        f"{what} {verb} {inner.shown}, and what is wanted is {wanted(inner_hint)}{quotes}"
    )


def _innermost(given: Marked, hint: Any) -> tuple[Marked, Any]:
    """Return the first value inside that does not fit, and what its own place is annotated with."""
    inside = given.inside
    for option in get_args(hint) if is_union(hint) else (hint,):
        # An empty value of the same kind tells whether the option is the one to look into.
        if not inside or not fits(type(given.value)(), option):
            continue
        wanted_inside = item_hint(option)
        misfit = next((item for item in inside if not fits(item.plain, wanted_inside)), None)
        if misfit is not None:
            return _innermost(misfit, wanted_inside)
    return given, hint
