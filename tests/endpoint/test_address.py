"""Endpoints are checked, and one server has one name."""

from __future__ import annotations

import pytest

from sage_dask.endpoint.address import check_endpoint, health_url, metrics_url
from sage_dask.errors import PlanError


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("http://gpu-0:8000/v1", "http://gpu-0:8000/v1"),
        ("http://gpu-0:8000/v1//", "http://gpu-0:8000/v1"),
        ("HTTP://GPU-0:8000/v1", "http://gpu-0:8000/v1"),
        ("http://gpu-0:80", "http://gpu-0"),
        ("https://api.example.com:443/Open/v1/", "https://api.example.com/Open/v1"),
        ("https://gpu-0:80/v1", "https://gpu-0:80/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_spellings_of_one_server_become_one_name(given, name):
    """Case, slashes at the end and ports that go without saying make no second gate."""
    assert check_endpoint(given) == name
    assert check_endpoint(name) == name


@pytest.mark.parametrize(
    "given",
    [
        "gpu-0:8000",
        "",
        "ftp://gpu-0/v1",
        "http:///v1",
        "http://gpu-0:port/v1",
        "http://gpu-0:70000/v1",
        "http://gpu-0:0/v1",
        "http://gpu 0/v1",
        "http://gpu-0\n.evil/v1",
        "http://[::1/v1",
        None,
        8000,
    ],
)
def test_what_is_no_url_is_refused_with_its_value(given):
    """The message shows what was given and what it should look like."""
    with pytest.raises(PlanError, match="is no URL of a server") as caught:
        check_endpoint(given, needed_by="Embed")

    assert str(caught.value).startswith(f"Embed: endpoint={given!r}")
    assert "http://gpu-0:8000/v1" in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        "http://user:canary-secret@gpu-0/v1",
        "http://canary-secret@gpu-0/v1",
        "http://gpu-0/v1?key=canary-secret",
        "http://gpu-0/v1#canary-secret",
    ],
)
def test_credentials_in_the_url_are_refused_without_showing_them(given):
    """A password or a query would be part of the gate's name, so neither may be there."""
    with pytest.raises(PlanError, match="api_key_env") as caught:
        check_endpoint(given)

    assert "canary-secret" not in str(caught.value)
    assert "gpu-0" in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "root"),
    [
        ("http://gpu-0:8000/v1", "http://gpu-0:8000"),
        ("http://proxy/team/v1", "http://proxy/team"),
        ("http://gpu-0:8000", "http://gpu-0:8000"),
        ("http://gpu-0:8000/v10x", "http://gpu-0:8000/v10x"),
    ],
)
def test_metrics_and_health_lie_beside_the_version(endpoint, root):
    """Only the version at the end of the path is taken off."""
    assert metrics_url(endpoint) == f"{root}/metrics"
    assert health_url(endpoint) == f"{root}/health"
