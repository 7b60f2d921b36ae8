"""Worked examples, as help texts show them."""

from __future__ import annotations


def example(*lines: str) -> str:
    """Return command lines as a paragraph that click does not wrap."""
    title = "Example" if len(lines) == 1 else "Examples"
    return "\n".join(["\b", f"{title}:", *(f"  {line}" for line in lines), "", ""])
