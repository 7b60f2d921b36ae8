"""The option that limits failures: a number of records, or a share of them."""

from __future__ import annotations

import click

from sage_dask.errors import PlanError
from sage_dask.max_errors import MaxErrors


class Failures(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases only
    """``10`` is a number of records; ``0.05`` and ``5%`` are a share of those that were read."""

    name = "N|SHARE|P%"

    def convert(
        self, value: str | int | float, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | float:
        """Return the number, or the share between 0 and 1."""
        try:
            limit = _number(str(value))
        except ValueError as error:
            raise PlanError(
                f"--max-errors {value!r} is neither a number of records, such as 10, nor a share, "
                "such as 5% or 0.05"
            ) from error
        MaxErrors(limit)
        return limit


def _number(text: str) -> int | float:
    if text.endswith("%"):
        return float(text[:-1]) / 100
    return int(text) if text.lstrip("+-").isdecimal() else float(text)
