"""Commands that talk to a service."""

from collections.abc import Sequence
from typing import Any

import click

from service.client.api_key import KEY_FILE_VARIABLE, KEY_VARIABLE
from service.client.client import DEFAULT_URL, URL_VARIABLE

_ENVIRONMENT = (
    f"{URL_VARIABLE} is the address of the service.  [default: {DEFAULT_URL}]  {KEY_VARIABLE} is the API key, or "
    f"{KEY_FILE_VARIABLE} a file with it."
)
_OVERRIDES = "pyramidion.overrides"


class ClientCommand(click.Command):
    """A command whose help states how it finds the service."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.epilog = " ".join(filter(None, [self.epilog, _ENVIRONMENT]))


class DocumentCommand(ClientCommand):
    """A command whose unknown options `--a.b value` and `--a.b=value` set fields of the document."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own, ctx.meta[_OVERRIDES] = self._split(ctx, args)
        return super().parse_args(ctx, own)

    def _split(self, ctx: click.Context, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the command's own arguments, and those that set fields of the document."""
        options = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        own: list[str] = []
        fields: list[str] = []
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            name, equals, _ = argument.partition("=")
            if not argument.startswith("--") or name in options:
                own.append(argument)
                continue
            fields.append(argument)
            if not equals and rest and not rest[0].startswith("--"):
                fields.append(rest.pop(0))
        return own, fields


def overrides_of(context: click.Context) -> list[str]:
    """Return the arguments of the command line that set fields of the document."""
    overrides: list[str] = context.meta[_OVERRIDES]
    return overrides


def requested_resources(cpus: int | None, gpus: int | None, timeout_s: float | None) -> dict[str, float]:
    """Return the resources of a request from options; the server chooses those that are missing."""
    resources = {"cpus": cpus, "gpus": gpus, "timeout_s": timeout_s}
    return {name: value for name, value in resources.items() if value is not None}
