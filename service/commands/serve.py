"""`pyramidion serve`, whose options are the fields of `Settings`, parsed by pydantic-settings."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import CliSettingsSource

from pipelines.base.errors import ConfigError, FieldProblem
from service.server.health import find_problem
from service.server.parts import Part
from service.server.serve import serve
from service.settings import PREFIX, Settings
from service.settings_secrets import SECRETS

SHORTCUTS = {
    "data_roots": "data-root", "weights_roots": "weights-root", "allowed_hosts": "allowed-host",
    "allowed_origins": "allowed-origin", "trainer_variables": "trainer-variable", "trusted_proxies": "trusted-proxy",
}  # fmt: skip
"""Options in the singular for settings that are lists; the plural is accepted too."""

METAVARS = {
    "root": "DIR", "data_roots": "DIR", "weights_roots": "DIR", "host": "ADDRESS", "executor": "NAME",
    "database_url": "URL", "storage_url": "URL", "predictor_url": "URL", "ray_address": "URL",
    "request_log": "BOOL", "require_keys": "BOOL", "allowed_hosts": "NAME", "allowed_origins": "URL",
    "trainer_variables": "NAME", "trusted_proxies": "ADDRESS",
    "slurm_partition": "NAME", "slurm_account": "NAME", "slurm_options": "OPTIONS",
    "run_storage": "URL", "run_scratch": "DIR",
}  # fmt: skip

ONLY_VARIABLES = frozenset({"predictor_secret"})
"""Settings without an option, because all users of a machine see the command lines of its processes."""


HEALTH = "health"
TEXTS = {
    Part.API: "Answer requests of the REST API. Several may run on one database and one root.",
    Part.SUPERVISOR: "Start and watch jobs on this machine. Running jobs continue without it, and the next one adopts "
    "them.",
    Part.PREDICTOR: "Predict images for the API, which reaches it at the address of --predictor-url.",
}
PARTS = " | ".join(TEXTS)


def run(arguments: Sequence[str]) -> int:
    """Run the service, or the part that the first argument names, until it is stopped; or report its health.

    Raises:
        ConfigError: a setting is invalid.
    """
    _, *words = arguments
    if words[:1] == [HEALTH]:
        return _check_health(words[1:])
    if words and words[0] in TEXTS:
        part = Part(words[0])
        parser = _parser(f"serve {part}", f"{TEXTS[part]} SIGTERM or Ctrl-C stops it.")
        return serve(read_settings(parser, words[1:]), (part,))
    parser = _parser(
        "serve",
        "Run the job service: its REST API, and the supervisor that starts and watches jobs. SIGTERM or Ctrl-C stops "
        "the service; running jobs continue, and the next service on the same root adopts them. "
        f"`pyramidion serve {PARTS}` runs one part by itself, with the same options, and "
        f"`pyramidion serve {HEALTH} {PARTS}` checks one.",
    )
    return serve(read_settings(parser, words))


def _check_health(words: Sequence[str]) -> int:
    """Return 0 if a part is healthy, otherwise 1, and print the reason."""
    text = "Exit with 0 if this part of the service is healthy, otherwise with 1 and the reason."
    if not words or words[0] not in TEXTS:
        parser = _parser(f"serve {HEALTH}", text)
        parser.add_argument("part", choices=list(TEXTS), metavar=PARTS)
        parser.parse_args(words[:1])
    part = Part(words[0])
    problem = find_problem(part, read_settings(_parser(f"serve {HEALTH} {part}", text), words[1:]))
    print(problem or f"the {part} is healthy")
    return 0 if problem is None else 1


def _parser(command: str, text: str) -> argparse.ArgumentParser:
    others = ", ".join(_variable(name) for name in sorted(ONLY_VARIABLES))
    files = " and ".join(f"{variable}_FILE" for variable in SECRETS)
    epilog = f"{others} has no option. {files} name files that contain the secret."
    return argparse.ArgumentParser(prog=f"pyramidion {command}", description=text, epilog=epilog, allow_abbrev=False)


def read_settings(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> Settings:
    """Return the settings from the command line, then the environment, then the defaults.

    Raises:
        ConfigError: with a problem for each invalid value, which names the option or the variable.
    """
    source = CliSettingsSource[Any](
        Settings,
        root_parser=parser,
        add_argument_method=_add_option,
        cli_kebab_case=True,
        cli_shortcuts={name.replace("_", "-"): singular for name, singular in SHORTCUTS.items()},
    )
    # pydantic-settings joins lists with commas, which folders may contain; it does not change tuples.
    given = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(parser.parse_args(arguments)).items()
    }
    try:
        return Settings(_cli_settings_source=source(parsed_args=given))
    except ValidationError as error:
        raise ConfigError([_problem(details, given) for details in error.errors(include_url=False)]) from error


def _problem(details: Mapping[str, Any], given: Mapping[str, Any]) -> FieldProblem:
    name = str(details["loc"][0]).lower().removeprefix(PREFIX.lower())
    place = _option(name) if name in given else _variable(name)
    return FieldProblem(place, f"got {details['input']!r}; {details['msg'].replace('Input', 'it', 1)}")


def _add_option(parser: argparse.ArgumentParser, *flags: str, **options: Any) -> argparse.Action:
    """Add the option of a setting like argparse's method, with this project's help text."""
    if options.get("action") == "help":
        return parser.add_argument(*flags, **options)
    name = options["dest"]
    if name in ONLY_VARIABLES:
        return argparse.Action([], name)
    options |= {"metavar": METAVARS.get(name, "N"), "help": _help(name, Settings.model_fields[name])}
    if name in SHORTCUTS:
        options |= {"action": "extend", "nargs": "+"}
    return parser.add_argument(*sorted(flags), **options)  # the singular first


def _option(name: str) -> str:
    return f"--{SHORTCUTS.get(name, name.replace('_', '-'))}"


def _variable(name: str) -> str:
    return PREFIX + name.upper()


def _separator(name: str) -> str:
    if name not in SHORTCUTS:
        return ""
    return ", separated as in PATH" if name.endswith("_roots") else ", separated by commas"


def _help(name: str, field: FieldInfo) -> str:
    facts = [f"{_variable(name)}{_separator(name)}"]
    if field.default_factory is not None:
        facts.append(f"default here: {field.get_default(call_default_factory=True, validated_data={})}")
    elif field.default not in (None, ()) and field.default is not PydanticUndefined:
        default = ", ".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        facts.append(f"default: {default}")
    return f"{field.description} [{'; '.join(facts)}]".replace("%", "%%")
