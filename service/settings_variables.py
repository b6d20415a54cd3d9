"""Settings as environment variables, and lists that are read from one variable. Torch-free."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from service.addresses import TrustedProxies
from service.settings_secrets import SecretFiles


def _words(value: Any) -> Any:
    words = value.split(",") if isinstance(value, str) else value
    return tuple(stripped for word in words if (stripped := word.strip()))


def _folders(value: Any) -> Any:
    return tuple(Path(part) for part in value.split(os.pathsep) if part) if isinstance(value, str) else value


def _networks(value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        TrustedProxies(value)
    except ValueError as error:
        message = "write addresses such as 10.0.0.7, and networks such as 10.1.0.0/16 ({error})"
        raise PydanticCustomError("networks", message, {"error": str(error)}) from error
    return value


def _ray_address(value: str | None) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value)
        has_place = parts.hostname is not None and parts.port is not None
    except ValueError:
        has_place = False
    if not has_place or parts.scheme not in ("http", "https") or parts.path.strip("/") or parts.query or parts.username:
        raise PydanticCustomError("ray_address", "write the address of Ray's dashboard, http://HOST:8265")
    return value.rstrip("/")


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
"""Words that are separated by commas in a variable."""
Networks = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words), AfterValidator(_networks)]
"""Addresses and networks, separated by commas."""
RayAddress = Annotated[str | None, AfterValidator(_ray_address)]
"""Address of a Ray cluster's dashboard."""
Folders = Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_folders)]
"""Folders, separated as in PATH."""


class SettingsOfVariables(BaseSettings):
    """Settings from arguments, else from variables, else from files that variables name."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources of values in the order of precedence."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    def environment(self, without: Collection[str] = ()) -> dict[str, str]:
        """Return the environment variables from which another process reads the same settings, except some."""
        values = self.model_dump(exclude_none=True, exclude=set(without))
        return as_variables(self.model_config["env_prefix"], values)


def as_variables(prefix: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of some settings."""
    return {prefix + name.upper(): _as_text(value) for name, value in values.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return (os.pathsep if any(isinstance(part, Path) for part in value) else ",").join(map(str, value))
    return str(value)
