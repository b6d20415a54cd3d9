"""A group of commands whose modules are imported only when a command runs, so that help and usage errors are fast."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from pipelines.base.suggestions import did_you_mean

HELP_WIDTH = 100


@dataclass(frozen=True)
class LazyCommand:
    """A command that is imported when it runs.

    Attributes:
        target: `module:attribute` of a `click.Command`, or of a function that parses the arguments itself: it takes
            them, starting with the command's name, and returns the exit code.
        help: its line in the list of commands.
    """

    target: str
    help: str

    def load(self, name: str) -> click.Command:
        """Import the command."""
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        return found if isinstance(found, click.Command) else PassThrough(name, found)


class PassThrough(click.Command):
    """Passes all arguments after the command's name, `--help` included, to a function that parses them."""

    def __init__(self, name: str, run: Callable[[Sequence[str]], int]) -> None:
        super().__init__(name, add_help_option=False)
        self._run = run

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = [*ctx.command_path.split()[1:], *args]
        return ctx.args

    def invoke(self, ctx: click.Context) -> int:
        return self._run(ctx.args)


class LazyGroup(click.Group):
    """Commands by section, in the order of the help text.

    Args:
        name: the group's name.
        sections: for each heading, the commands and groups by name.
        default: the command that gets the arguments if the first one is not the name of a command, such as a file.
    """

    def __init__(
        self,
        name: str,
        sections: Mapping[str, Mapping[str, "LazyCommand | LazyGroup"]],
        default: str | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(name, **attributes)
        self._default = default
        self._sections = sections
        self._entries = {name: entry for section in sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self._entries.get(cmd_name)
        return entry.load(cmd_name) if isinstance(entry, LazyCommand) else entry

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self._entries and not name.startswith("-"):
            if self._default is not None:
                return super().resolve_command(ctx, [self._default, *args])
            hint = did_you_mean(name, self._entries) or f"choose one of {', '.join(self._entries)}"
            ctx.fail(f"unknown command {name!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, entries in self._sections.items():
            rows = [(name, entry.help or "") for name, entry in entries.items()]
            with formatter.section(heading):
                formatter.write_dl(rows)
