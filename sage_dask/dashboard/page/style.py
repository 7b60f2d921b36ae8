"""The style sheets, as the files beside this module say."""

from __future__ import annotations

from importlib.resources import files

from bokeh.models import InlineStyleSheet


def text(name: str) -> str:
    """Return a style sheet as text."""
    return files(__package__).joinpath(f"{name}.css").read_text(encoding="utf-8")


class Style:
    """The style sheets of one page, each of which its models share."""

    def __init__(self) -> None:
        self._sheets: dict[str, InlineStyleSheet] = {}

    def __call__(self, *names: str) -> list[InlineStyleSheet]:
        """Return style sheets for a model; the later ones count more."""
        for name in names:
            if name not in self._sheets:
                self._sheets[name] = InlineStyleSheet(css=text(name))
        return [self._sheets[name] for name in names]
