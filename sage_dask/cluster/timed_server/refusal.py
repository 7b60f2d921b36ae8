"""Requests that are refused, in the words and shapes of vLLM 0.32."""

from __future__ import annotations

from typing import Any


class RefusalError(Exception):
    """A request is answered with an error, in vLLM's shape."""

    def __init__(
        self, status: int, message: str, kind: str = "BadRequestError", param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {
            "error": {"message": message, "type": kind, "param": param, "code": status},
        }


class UnauthorizedError(RefusalError):
    """The key is missing or wrong; vLLM says so in a shape of its own."""

    def __init__(self) -> None:
        super().__init__(401, "Unauthorized")
        self.body = {"error": "Unauthorized"}


def invalid(loc: str, kind: str, message: str) -> RefusalError:
    """Return the refusal of a field that is missing or of the wrong type."""
    text = f"1 validation error:\n  {{'type': '{kind}', 'loc': '{loc}', 'msg': '{message}'}}"
    return RefusalError(400, text, "Bad Request", loc)


def refused(param: str, message: str, value: Any = None) -> RefusalError:
    """Return the refusal of a field's value."""
    found = "" if value is None else f", value={value}"
    return RefusalError(400, f"{message} (parameter={param}{found})", param=param)
