"""Options of the form ``NAME=AMOUNT``."""

from __future__ import annotations

from collections.abc import Callable

import click

from sage_dask.errors import PlanError


class Amount(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """A name with a number, such as ``LLM=4``.

    Args:
        number: Makes the number of its text, such as ``int``.
    """

    name = "NAME=AMOUNT"

    def __init__(self, number: Callable[[str], float]) -> None:
        self._number = number

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Return the name and the number."""
        name, _, amount = value.partition("=")
        try:
            return name, self._number(amount)
        except ValueError as error:
            option = param.opts[0] if param is not None else ""
            raise PlanError(f"{option} {value!r} is not NAME=AMOUNT, such as LLM=4") from error
