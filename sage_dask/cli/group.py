"""The group of all commands: loads them by need, and turns errors into one paragraph.

Errors are met here rather than around ``main``, so that ``dask sage`` treats
them alike.
"""

from __future__ import annotations

import importlib
import shlex
import sys
import traceback
from collections.abc import Mapping
from typing import Any, NoReturn

import click

from sage_dask.cli.exits import INTERRUPTED, code_of
from sage_dask.cli.signals import Terminated, signals_raise
from sage_dask.cli.streams import say
from sage_dask.errors import SageError, did_you_mean, listed

# Where click's context keeps the command line as it was typed.
_TYPED = "sage_dask.typed"


class CommandGroup(click.Group):
    """A group whose commands are named as ``module:attribute`` and imported when asked for."""

    def __init__(self, *args: Any, commands_by_word: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._commands_by_word = commands_by_word

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what was typed, before any of it is understood."""
        ctx.meta[_TYPED] = shlex.join([*ctx.command_path.split(), *args])
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are taught."""
        return list(self._commands_by_word)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None where there is none of that name."""
        target = self._commands_by_word.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of a command line; an unknown one suggests the closest."""
        word = args[0]
        if word not in self._commands_by_word and not word.startswith("-"):
            ctx.fail(
                f"no command {word!r}; known are {listed(self._commands_by_word)}"
                f"{did_you_mean(word, self._commands_by_word)}"
            )
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our own errors and signals end it with a message and an exit code."""
        try:
            with signals_raise():
                return super().invoke(ctx)
        except Terminated as error:
            _exit(ctx, error, f"terminated by {error}", error.exit_code)
        except KeyboardInterrupt as error:
            _exit(ctx, error, "interrupted", INTERRUPTED)
        except SageError as error:
            _exit(ctx, error, f"error: {error}", code_of(error))


def what_was_typed() -> str:
    """Return the present command line; empty where a program called."""
    ctx = click.get_current_context(silent=True)
    return "" if ctx is None else str(ctx.meta.get(_TYPED, ""))


def _exit(ctx: click.Context, error: BaseException, message: str, code: int) -> NoReturn:
    if ctx.params.get("traceback"):
        say("".join(traceback.format_exception(error)).rstrip(), err=True)
    say("; ".join([message, *getattr(error, "__notes__", ())]), err=True)
    if sys.stdout is not None:
        sys.stdout.flush()
    ctx.exit(code)
