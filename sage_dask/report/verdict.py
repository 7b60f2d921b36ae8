"""What a comparison comes to, in plain sentences that claim no more than one run each can tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sage_dask.breakdown import RESIDUE
from sage_dask.metrics import duration
from sage_dask.report.comparison import Comparison, Pair, PartPair
from sage_dask.report.measures import Better

# Two runs of the same pipeline on a quiet machine differ by some per cent.
_NOISE = 0.05


def verdict(comparison: Comparison) -> list[str]:
    """Return sentences: what got better or worse, which part moved most, and what to beware of."""
    return [*_on_figures(comparison), *_on_parts(comparison), *_cautions(comparison)]


def _on_figures(comparison: Comparison) -> Iterator[str]:
    said = [words for pair in comparison.pairs if pair.measure.is_headline for words in _said(pair)]
    names = f"{comparison.name} against {comparison.against_name}, one run each"
    yield f"{names}: {'; '.join(said) or 'nothing was measured in both'}."


def _said(pair: Pair) -> Iterator[str]:
    """Yield what is to be said of a figure; nothing where it was not measured in both."""
    name, value = pair.measure.name, pair.measure.value
    if math.isnan(pair.difference) or (not value and not pair.against):
        return
    if value == pair.against or abs(pair.ratio - 1) < _NOISE:
        yield f"{name} about the same"
        return
    is_better = (pair.difference > 0) == (pair.measure.better is Better.MORE)
    judged = "better" if is_better else "worse"
    if pair.ratio >= 2:
        yield f"{name} {pair.ratio:,.1f} times as high ({judged})"
    elif not math.isnan(pair.ratio):
        change = abs(pair.ratio - 1)
        yield f"{name} {change:.0%} {'higher' if pair.difference > 0 else 'lower'} ({judged})"
    else:
        yield f"{name} {pair.measure.text} {pair.measure.unit}, and none there ({judged})"


def _on_parts(comparison: Comparison) -> Iterator[str]:
    whole = [part for part in comparison.parts if not part.of_stage]
    if not whole or any(math.isnan(part.difference_s) for part in whole):
        yield "Where the latency went was not measured in both."
        return
    change_s = comparison.figures.breakdown.latency_s - comparison.against.breakdown.latency_s
    most = _most_moved(whole)
    if abs(most.difference_s) < _NOISE * comparison.against.breakdown.latency_s:
        yield f"No part of the latency moved by more than {_NOISE:.0%} of it."
        return
    within = [part for part in comparison.parts if part.of_stage == most.name]
    inside = ""
    if within:
        inner = _most_moved(within)
        inside = f", of which {inner.name!r} {_signed(inner.difference_s)}"
    what = "what nobody accounts for" if most.name == RESIDUE else repr(most.name)
    yield (
        f"The mean latency changed by {_signed(change_s)}; the part that moved most is {what}: "
        f"{_signed(most.difference_s)}{inside}."
    )


def _most_moved(parts: Sequence[PartPair]) -> PartPair:
    return max(parts, key=lambda part: abs(part.difference_s))


def _signed(seconds: float) -> str:
    return f"{'-' if seconds < 0 else '+'}{duration(abs(seconds))}"


def _cautions(comparison: Comparison) -> Iterator[str]:
    differing = {what: (here, there) for what, here, there in comparison.differences}
    for what in ("pipeline", "stages", "records read"):
        if what in differing:
            here, there = differing[what]
            yield f"They do not compare like with like: {what} {here!r} here, {there!r} there."
    for name, figures in (
        (comparison.name, comparison.figures),
        (comparison.against_name, comparison.against),
    ):
        if not figures.is_done:
            yield f"{name} is not done ({figures.outcome}), and is counted as far as it came."
    yield (
        f"Differences below {_NOISE:.0%} are called none, and larger ones may still be chance; "
        "repeat both to know."
    )
