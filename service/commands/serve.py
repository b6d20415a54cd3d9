"""`pyramidion serve`: its options are the fields of `Settings`."""

import argparse
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from pipelines.errors import ConfigError, FieldProblem
from service.server import serve
from service.settings import PREFIX, Settings


def run(arguments: Sequence[str]) -> int:
    """Run the service until it is stopped; raises ConfigError where its settings are wrong."""
    parser = argparse.ArgumentParser(
        prog="pyramidion serve",
        description="Run the job service: its REST interface on the loopback, and what starts and looks after jobs. "
        "SIGTERM or Ctrl-C ends it; jobs that run go on, and the next one on the same root takes them up.",
        allow_abbrev=False,
    )
    for name, field in Settings.model_fields.items():
        if _is_folders(name):
            help_text = _help(name, field)
            parser.add_argument(_option(name), dest=name, action="extend", nargs="+", metavar="DIR", help=help_text)
        else:
            metavar = {"root": "DIR", "database_url": "URL"}.get(name, "N")
            parser.add_argument(_option(name), dest=name, metavar=metavar, help=_help(name, field))
    options = parser.parse_args(arguments[1:])
    return serve(read_settings({name: value for name, value in vars(options).items() if value is not None}))


def read_settings(given: dict[str, Any]) -> Settings:
    """Return what is given, and for what is not what the environment says; raises ConfigError with a problem for each
    wrong value, which names the option or the variable."""
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = []
        for details in error.errors(include_url=False):
            name = str(details["loc"][0]).lower().removeprefix(PREFIX.lower())
            place = _option(name) if name in given else _variable(name)
            problems.append(
                FieldProblem(place, f"got {details['input']!r}; {details['msg'].replace('Input', 'it', 1)}")
            )
        raise ConfigError(problems) from error


def _is_folders(name: str) -> bool:
    return name.endswith("_roots")


def _option(name: str) -> str:
    return f"--{(name.removesuffix('s') if _is_folders(name) else name).replace('_', '-')}"


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _help(name: str, field: FieldInfo) -> str:
    facts = [f"{_variable(name)}{', separated as in PATH' if _is_folders(name) else ''}"]
    if field.default_factory is not None:
        facts.append(f"default here: {field.get_default(call_default_factory=True, validated_data={})}")
    elif field.default is not None and field.default is not PydanticUndefined:
        default = ", ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        facts.append(f"default: {default}")
    text = f"[{'; '.join(facts)}]".replace("%", "%%")
    return f"{field.description} {text}" if field.description else text
