"""The complete document of a job, and which of its fields differ from the defaults. Torch-free."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from pipelines.base.errors import ConfigError
from pipelines.run_folder.layout import RunDir
from pipelines.spec.load import read_yaml


def complete_document(
    schema: type[BaseModel], config: Mapping[str, Any], run_dir: RunDir
) -> tuple[dict[str, Any], list[str] | None]:
    """Return a document with all defaults, and JSON pointers of the fields that differ from them.

    A run that has started has written its complete document, in which values that it measured are filled in.

    Args:
        config: the document as it was submitted.
        run_dir: the folder of the run, which may be missing.

    Returns:
        The pointers are None if this version does not accept the document.
    """
    found = _written(run_dir) or dict(config)
    try:
        parsed = schema.model_validate(found)
    except ValidationError:
        return found, None
    return parsed.model_dump(mode="json"), list(_differences(parsed, ""))


def _written(run_dir: RunDir) -> dict[str, Any] | None:
    try:
        document = read_yaml(run_dir.config_yaml.read_text("utf-8"), run_dir.config_yaml.name)
    except (OSError, UnicodeDecodeError, ConfigError):
        return None
    return document if isinstance(document, dict) else None


def _differences(section: BaseModel, pointer: str) -> Iterator[str]:
    """Yield the pointers of all values below a section that differ from the defaults of its class."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        default = field.get_default(call_default_factory=True, validated_data={})
        if default is PydanticUndefined or value != default:
            yield from _pointers(value, f"{pointer}/{name}")


def _pointers(value: Any, pointer: str) -> Iterator[str]:
    """Yield the pointers of what differs in a value that is not the default."""
    if isinstance(value, BaseModel):
        below = list(_differences(value, pointer))
        # A section of another kind than the default differs, although all of its fields have their own defaults.
        yield from below or [pointer]
    elif isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _pointers(item, f"{pointer}/{_escaped(str(key))}")
    elif isinstance(value, list | tuple) and any(isinstance(item, BaseModel) for item in value):
        for position, item in enumerate(value):
            yield from _pointers(item, f"{pointer}/{position}")
    else:
        yield pointer


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
