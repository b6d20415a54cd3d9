"""`docker-compose.yml` as Docker reads it: with anchors resolved, and variables at their defaults."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+):-(?P<default>[^}]*)\}|\$")


@cache
def compose() -> dict[str, Any]:
    """Return the file; every variable must have a default."""
    loaded: dict[str, Any] = _filled(yaml.safe_load(FILE.read_text("utf-8")))
    return loaded


def services() -> dict[str, dict[str, Any]]:
    """Return all services by name, those of profiles included."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def environment_of(service: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a service."""
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def in_order_of_start() -> list[str]:
    """Return the services without a profile, each after those that it waits for."""
    waiting = {name: set(service.get("depends_on", {})) for name, service in services().items()}
    ordered: list[str] = []
    while remaining := [name for name in waiting if name not in ordered and "profiles" not in services()[name]]:
        ready = [name for name in remaining if waiting[name] <= set(ordered)]
        assert ready, f"{remaining} wait for each other"
        ordered += ready
    return ordered


def _filled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item) for item in value]
    return _VARIABLE.sub(_default, value) if isinstance(value, str) else value


def _default(variable: re.Match[str]) -> str:
    assert variable.group() != "$", f"{variable.string!r}: a variable without a default, or a single dollar sign"
    return "$" if variable.group() == "$$" else variable["default"]
