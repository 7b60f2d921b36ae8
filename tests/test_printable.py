"""Words that are not ours."""

from __future__ import annotations

import pytest

from sage_dask.printable import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is", "as it is"),
        ("two\nlines\tand  spaces ", "two lines and spaces"),
        ("\x1b[31;1mred\x1b[0m", "red"),
        ("\x9b2Jcleared", "cleared"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link", "link"),
        ("\x1bPorder\x1b\\after", "after"),
        ("\x1b(Bset", "set"),
        ("ends in \x1b", "ends in "),
        ("ring\x07\x00", "ring\ufffd\ufffd"),
        ("right\u202eleft", "right\ufffdleft"),
        ("half \ud800", "half \ufffd"),
        ("[red]stays[/red] naïve 東京", "[red]stays[/red] naïve 東京"),
    ],
)
def test_what_a_terminal_takes_for_orders_is_not_shown(text, shown):
    """Whole sequences go, what can not be shown is replaced, and all else stays as it is."""
    assert plain(text) == shown.rstrip()
    assert plain(text).isprintable()
