"""The map of nodes: one tile each, in words as well as colours."""

from __future__ import annotations

from collections.abc import Iterator

from sage_dask.dashboard.page import words
from sage_dask.dashboard.page.html import bar, clipped, panel
from sage_dask.dashboard.snapshot import NodeLoad, Snapshot
from sage_dask.markup import Html, element
from sage_dask.scheduling.statistics import NodeStatistics

MOST_TILES = 200

# From so many on, tiles say their figures in fewer words.
_MANY = 24

# Dask's workers begin to spill at 0.6 of their memory and pause at 0.8.
_MUCH_MEMORY = 0.8
# What a measurement may be off by chance is no slowness.
_SLOW = 1.25


def render(snapshot: Snapshot) -> Html:
    """Return a tile for each node, in the order of their names."""
    if not snapshot.nodes:
        return panel("Nodes", element("p", "No worker has joined yet.", class_="quiet"))
    known = snapshot.scheduling.nodes if snapshot.scheduling is not None else {}
    shown = snapshot.nodes[:MOST_TILES]
    tiles = [_tile(node, known.get(node.name)) for node in shown]
    threads = sum(node.num_threads for node in snapshot.nodes)
    left_out = len(snapshot.nodes) - len(shown)
    more = element("p", f"and {left_out:,} more", class_="quiet") if left_out else ""
    kind = "tiles many" if len(shown) > _MANY else "tiles"
    return panel("Nodes", element("div", tiles, class_=kind), more, aside=f"{threads:,} threads")


def _tile(node: NodeLoad, known: NodeStatistics | None) -> Html:
    remarks = list(_remarks(node, known))
    worst = next((kind for kind in ("bad", "warn") if any(k == kind for k, _ in remarks)), "")
    busy = _busy(known)
    state = worst or ("idle" if busy == 0 else "")
    load = busy / node.num_threads if busy is not None and node.num_threads else 0.0
    said = [element("span", text, class_=kind) for kind, text in remarks]
    return element(
        "div",
        element("b", clipped(node.name, 40), title=clipped(node.name)),
        bar(load, kind=worst),
        element("span", _load(node, busy), class_="load"),
        element("span", *_use(node), class_="use"),
        element("div", said, class_="remarks") if said else "",
        class_=f"tile {state}".rstrip(),
        title=_title(node, known),
    )


def _busy(known: NodeStatistics | None) -> int | None:
    """Return the threads that compute; None where nobody counts them."""
    return known.in_flight - known.num_waiting if known is not None else None


def _load(node: NodeLoad, busy: int | None) -> str:
    if busy is None:
        return f"{node.num_threads} threads"
    state = "idle" if busy == 0 else "full" if busy >= node.num_threads else "busy"
    return f"{busy}/{node.num_threads} {state}"


def _use(node: NodeLoad) -> Iterator[Html]:
    yield element("span", "mem ", element("b", words.share(node.memory)))
    yield element("span", "cpu ", element("b", words.share(node.cpu)))


def _remarks(node: NodeLoad, known: NodeStatistics | None) -> Iterator[tuple[str, str]]:
    if node.num_paused and node.num_paused >= node.num_workers:
        yield "bad", "takes no tasks"
    elif node.num_paused:
        yield "warn", f"{node.num_paused} of {node.num_workers} workers take none"
    if node.memory is not None and node.memory >= _MUCH_MEMORY:
        yield "bad", "short of memory"
    if known is not None and known.slowdown >= _SLOW:
        yield "warn", f"{known.slowdown:.1f} times slower"
    # They take no thread, so they are none of the busy.
    if known is not None and known.num_waiting:
        yield "", f"{known.num_waiting} waiting"


def _title(node: NodeLoad, known: NodeStatistics | None) -> str:
    workers = f"{node.num_workers} worker{'' if node.num_workers == 1 else 's'}"
    placed = f", {known.num_placed:,} tasks placed so far" if known is not None else ""
    return f"{clipped(node.name)}: {workers}, {node.num_threads} threads{placed}"
