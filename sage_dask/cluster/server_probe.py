"""Asking a model server whether it is ready, and which models it has.

Plain requests of the standard library, one at a time: for starting and
attaching, not for work.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sage_dask.endpoint.address import check_endpoint, health_url

# A server on this machine or beside it; one that is slower than this is not ready.
_TIMEOUT_S = 5.0


class NotReadyError(Exception):
    """The server does not answer, or not as a ready one does; the message says how."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


def base_url(url: str) -> str:
    """Return the root of a server, given with or without the ``/v1`` of its endpoint.

    Raises:
        PlanError: That is no URL of a server, or one with a password in it.
    """
    return check_endpoint(url, needed_by="ModelServer").removesuffix("/v1")


def ready_models(base: str, *, key: str | None = None) -> tuple[str, ...]:
    """Return the names of the models that a ready server has.

    Args:
        base: The server's root, as from ``base_url``.
        key: API key, where the server wants one.

    Raises:
        NotReadyError: It is not ready, or not reachable.
    """
    try:
        _get(health_url(base), key)
    except NotReadyError as error:
        # Not every server has it; those of clouds want a key for whatever they do not know.
        if error.status is None or error.status not in (401, 403, 404, 405):
            raise
    body = _get(f"{base}/v1/models", key)
    try:
        listing: Mapping[str, Any] = json.loads(body)
        return tuple(model["id"] for model in listing["data"])
    except (ValueError, LookupError, TypeError):
        raise NotReadyError("GET /v1/models is answered with something else than models") from None


def _get(url: str, key: str | None) -> bytes:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    # The scheme was checked with the rest of the address.
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    path = urlsplit(url).path
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            content: bytes = answer.read()
            return content
    except urllib.error.HTTPError as error:
        error.close()
        raise NotReadyError(f"GET {path} is answered {error.code}", error.code) from None
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
        raise NotReadyError(reason[:1].lower() + reason[1:]) from None
    except TimeoutError:
        raise NotReadyError(f"no answer to GET {path} within {_TIMEOUT_S:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise NotReadyError(str(error) or type(error).__name__) from None
