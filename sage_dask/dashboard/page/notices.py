"""What people should know, and what to do about it."""

from __future__ import annotations

from sage_dask.dashboard.page import words
from sage_dask.dashboard.page.html import chip, clipped, panel
from sage_dask.dashboard.snapshot import Snapshot
from sage_dask.markup import Html, element

MOST = 8

# Sentences that say how to mend something are of no use when they are cut.
_MOST_CHARS = 1200


def render(snapshot: Snapshot) -> Html:
    """Return the latest notices, the latest first; nothing where there are none."""
    if not snapshot.notices:
        return Html()
    items = [
        element(
            "li",
            chip(clipped(notice.kind, 40), "warn"),
            element("span", clipped(notice.text, _MOST_CHARS)),
            element("small", words.ago(snapshot.now_s - at_s)),
        )
        for at_s, notice in list(snapshot.notices)[: -MOST - 1 : -1]
    ]
    return panel("Notices", element("ul", items, class_="notices"))
