"""What the page says before anything has run: how to run something."""

from __future__ import annotations

from sage_dask.markup import Html, element


def render(scheduler: str) -> Html:
    """Return the command that runs a pipeline on a scheduler.

    Args:
        scheduler: Its address.
    """
    return element(
        "div",
        element("h2", "No pipeline has run here yet"),
        element("p", "Run one on this cluster, and it appears here within a second:"),
        # Where a line is too short, the option goes to the next as a whole.
        element(
            "code", "sage-dask run pipeline.yaml ", element("span", f"--scheduler {scheduler}")
        ),
        class_="welcome",
    )
