"""Where a model server is: its base URL, checked and written one way.

The URL is the server's name everywhere: of its gate, in reports, in messages.
Two spellings of one server would be two gates, each with the full limit.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

from sage_dask.errors import PlanError

_DEFAULT_PORTS = {"http": 80, "https": 443}
# The version that the protocol's paths begin with; metrics and health lie beside it.
_VERSION = re.compile(r"/v\d+\Z")
_UNPRINTABLE = re.compile(r"[\s\x00-\x1f\x7f]")


def check_endpoint(endpoint: str, *, needed_by: str = "Generate") -> str:
    """Return the base URL of a server as its gate is named.

    Scheme and host are lower case; a port that goes without saying and slashes
    at the end are left out.

    Args:
        endpoint: What the user gave, such as ``http://gpu-0:8000/v1/``.
        needed_by: Who needs the server, for messages.

    Raises:
        PlanError: It is no base URL, or one with a password or a query in it.
    """
    parts = _split(endpoint)
    if parts is None:
        raise PlanError(
            f"{needed_by}: endpoint={endpoint!r} is no URL of a server; "
            "write it like 'http://gpu-0:8000/v1'"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise PlanError(
            f"{needed_by}: the endpoint at {parts.hostname!r} carries credentials or a query, "
            "which would show in logs; give the name of a variable with the key as "
            "api_key_env=..."
        )
    return f"{parts.scheme}://{_host(parts)}{parts.path.rstrip('/')}"


def is_endpoint(name: str) -> bool:
    """Return whether a gate's name is a server's URL."""
    return _split(name) is not None


def metrics_url(endpoint: str) -> str:
    """Return where the server tells its load, in Prometheus' text format."""
    return f"{_root(endpoint)}/metrics"


def health_url(endpoint: str) -> str:
    """Return where the server says that it is ready."""
    return f"{_root(endpoint)}/health"


def _split(endpoint: str) -> SplitResult | None:
    """Return the parts of a URL that names a host; None for anything else."""
    # urlsplit drops line breaks and tabs silently, so that "a\nb" would name another host.
    if not isinstance(endpoint, str) or _UNPRINTABLE.search(endpoint):
        return None
    try:
        parts = urlsplit(endpoint)
        port = parts.port  # Raises only when it is looked at.
    except ValueError:
        return None
    return parts if parts.scheme in _DEFAULT_PORTS and parts.hostname and port != 0 else None


def _host(parts: SplitResult) -> str:
    """Return host and port; an IPv6 address in brackets."""
    name = parts.hostname or ""
    host = f"[{name}]" if ":" in name else name
    return host if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{host}:{parts.port}"


def _root(endpoint: str) -> str:
    return _VERSION.sub("", endpoint.rstrip("/"))
