"""HTML that is made of elements: whatever is only text is escaped."""

from __future__ import annotations

from sage_dask.markup import Html, element, joined

EVIL = "<img src=x onerror=alert(1)>"


def test_whatever_is_no_html_is_escaped():
    """Content and attributes of users can not close an element or open one."""
    made = element("p", "<b>&", element("i", "'x'"), title='"><script>')

    assert made == ('<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt;&amp;<i>&#x27;x&#x27;</i></p>')


def test_text_that_is_joined_to_html_stays_text():
    """Only what was made here counts as HTML, not what looks like it."""
    assert element("p", Html("<br>") + "<br>") == "<p>&lt;br&gt;&lt;br&gt;</p>"


def test_text_is_escaped_and_elements_are_not():
    """So an element within an element is one, and a name that looks like one is a name."""
    made = element("td", EVIL, element("b", "1 & 2"))

    assert made == "<td>&lt;img src=x onerror=alert(1)&gt;<b>1 &amp; 2</b></td>"


def test_attributes_can_not_be_left_by_quotes():
    """A name in an attribute stays there."""
    made = element("button", "x", data_job='"><script>')

    assert made == '<button data-job="&quot;&gt;&lt;script&gt;">x</button>'


def test_attributes_that_are_empty_are_left_out():
    """So panels need no conditions."""
    assert element("tr", class_="", hidden=False) == "<tr></tr>"


def test_text_that_was_added_to_markup_by_hand_counts_as_text():
    """The sum of markup and text is text: escaped once too often, never too seldom."""
    assert joined(Html("<b>") + EVIL) == "&lt;b&gt;&lt;img src=x onerror=alert(1)&gt;"
