"""The words and numbers of a progress display, each short enough for its place."""

from __future__ import annotations

from sage_dask.metrics import clock_time, in_short, money
from sage_dask.printable import plain
from sage_dask.standing import RUNNING, Progress

# What ends well needs no words beyond its counts.
DONE = "done"


def count(number: float, width: int) -> str:
    """Return a number in full where it fits into so many characters, else in short.

    >>> count(1_234_567, 9), count(1_234_567, 7)
    ('1,234,567', '1.2M')
    """
    full = f"{number:,.0f}"
    return full if len(full) <= width else in_short(number)


def done_of(done: int, expected: int | None, width: int) -> str:
    """Return what is done of what there is; in full where the whole will fit to the end."""
    if expected is None:
        return count(done, width)
    if 2 * len(f"{expected:,}") + len(" of ") <= width:
        return f"{done:,} of {expected:,}"
    return f"{in_short(done)} of {in_short(expected)}"


def rate(per_s: float) -> str:
    """Return records per second in at most nine characters."""
    return f"{per_s:,.1f}/s" if per_s < 9999.95 else f"{in_short(per_s)}/s"


def time_of(seconds: float) -> str:
    """Return a duration in at most eight characters: as a clock shows it, or in days."""
    days, hours = divmod(int(seconds) // 3600, 24)
    if days < 4:
        return clock_time(seconds)
    return f"{days} d {hours} h" if days < 100 else f"{days:,} d"


def amount(number: float) -> str:
    """Return an amount of money in at most eight characters; nothing where there is none."""
    if not number:
        return ""
    if number < 0.0001:
        return "<0.0001"
    return money(number) if number < 10_000 else in_short(number)


def milliseconds(number: float) -> str:
    """Return milliseconds in at most nine characters, without their unit."""
    return f"{number:,.2f}" if number < 99_999.995 else count(number, 9)


def summary(progress: Progress, elapsed_s: float) -> str:
    """Return the counts of a run as one line, without its name.

    Args:
        progress: The latest state.
        elapsed_s: Seconds since the first read, which may have gone on since that state.
    """
    done = progress.num_read
    per_s = (done - progress.num_before) / elapsed_s if elapsed_s > 0 else 0.0
    parts = [f"{done:,} done"]
    if progress.expected is not None:
        share = f" ({min(1.0, done / progress.expected):.0%})" if progress.expected else ""
        parts = [f"{done:,} of {progress.expected:,} done{share}"]
    parts.append(f"{per_s:,.1f}/s")
    parts.append(f"{progress.num_failed:,} failed" if progress.num_failed else "")
    parts.append(f"{progress.num_filtered:,} filtered" if progress.num_filtered else "")
    parts.append(f"{in_short(progress.tokens)} tokens" if progress.tokens else "")
    parts.append(f"cost {money(progress.cost)}" if progress.cost else "")
    parts.append(clock_time(elapsed_s))
    left = max(0, (progress.expected or 0) - done)
    is_running = progress.outcome == RUNNING
    parts.append(f"{clock_time(left / per_s)} left" if left and per_s and is_running else "")
    is_well = progress.outcome in (RUNNING, DONE)
    parts.append("" if is_well else f"ended: {plain(progress.outcome)}")
    return "   ".join(part for part in parts if part)
