"""Secrets of the settings from files, as container platforms provide them. Torch-free."""

import os
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from pipelines.base.errors import ConfigError, FieldProblem

SECRETS = ("PYRAMIDION_DATABASE_URL", "PYRAMIDION_PREDICTOR_SECRET")
"""Variables of the settings that contain a secret; `<variable>_FILE` names a file that contains it."""
SECRET_SETTINGS = tuple(variable.removeprefix("PYRAMIDION_").lower() for variable in SECRETS)
"""The names of these settings."""


class SecretFiles(PydanticBaseSettingsSource):
    """Values of settings from the files that variables name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the content of a setting's file or None, the setting's name, and False, because it is not JSON.

        Raises:
            ConfigError: the file cannot be read or is empty, or the secret itself is set as well.
        """
        variable = f"{self.config['env_prefix']}{field_name}".upper()
        path = os.environ.get(f"{variable}_FILE") if variable in SECRETS else None
        if not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise _problem(variable, f"set beside {variable}; unset one of them")
        try:
            secret = Path(path).read_text("utf-8").strip()
        except PermissionError as error:
            problem = f"{path!r} may not be read by the user id {os.getuid()}; change its owner or mode, such as 0400"
            raise _problem(variable, problem) from error
        except (OSError, ValueError) as error:
            raise _problem(variable, f"{path!r} cannot be read ({error}); name a text file with the secret") from error
        if not secret:
            raise _problem(variable, f"{path!r} is empty; write the secret into it")
        return secret, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the settings that have a file."""
        fields = self.settings_cls.model_fields.items()
        found = {name: self.get_field_value(field, name)[0] for name, field in fields}
        return {name: value for name, value in found.items() if value is not None}


def variable_of(secret: str) -> str:
    """Return the variable that sets a secret here: itself, or the one that names its file."""
    return f"{secret}_FILE" if os.environ.get(f"{secret}_FILE") else secret


def _problem(variable: str, message: str) -> ConfigError:
    return ConfigError(FieldProblem(f"{variable}_FILE", message))
