"""Read a document: files and overrides are merged first, then the result is validated once."""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.yaml_aliases import BoundedAliases
from pipelines.base.yaml_keys import UniqueKeys
from pipelines.spec.explain import explain
from pipelines.spec.job import JobSpec

Document = dict[str, Any]

RECIPE_PREFIX = "recipe:"

RECIPE = "recipe"
"""Key of a short document, which leaves its settings to a recipe (`pipelines.data.drafting.finetune`)."""


class _Loader(UniqueKeys, BoundedAliases, yaml.SafeLoader):
    """YAML in which 1e-3 is a number, and repeated keys and endless repetitions are errors."""


class Dumper(yaml.SafeDumper):
    """Quotes the strings that `_Loader` would read as another type."""


for _class in (_Loader, Dumper):
    _class.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def read_yaml(text: str, name: str) -> Any:
    """Return the value of a YAML text; raises ConfigError, with `name` as its field, if it is not valid YAML."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigError(
            FieldProblem(name, f"is not valid YAML{where}: {getattr(error, 'problem', error)}")
        ) from error
    except (ValueError, AttributeError, RecursionError) as error:
        # PyYAML raises these for values that do not match their tag, such as `!!int x`.
        raise ConfigError(FieldProblem(name, f"contains a value that cannot be read: {error}")) from error


def write_yaml(document: Mapping[str, Any], comment: str = "") -> str:
    """Return the document as YAML, below lines of comments; the order of its keys is kept."""
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + yaml.dump(dict(document), Dumper=Dumper, sort_keys=False, allow_unicode=True)


def recipe_names() -> list[str]:
    """Return the names of the shipped recipes, for `recipe:NAME`."""
    folder = resources.files("pipelines.recipes")
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _read_config(config: str) -> str:
    if config.startswith(RECIPE_PREFIX):
        name = config.removeprefix(RECIPE_PREFIX)
        if name not in recipe_names():
            raise ConfigError(FieldProblem("--config", f"got {config!r}; the recipes are {', '.join(recipe_names())}"))
        return resources.files("pipelines.recipes").joinpath(f"{name}.yaml").read_text("utf-8")
    try:
        return Path(config).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(FieldProblem("--config", f"cannot read {config!r} ({error}); name a YAML file")) from error


def read_document(config: str) -> Document:
    """Return the content of a file, or of the shipped recipe for `recipe:NAME`; raises ConfigError."""
    document = read_yaml(_read_config(config), config)
    if not isinstance(document, dict):
        raise ConfigError(FieldProblem(config, f"contains {type(document).__name__}; a job document is a mapping"))
    return document


def merge(base: Any, over: Any) -> Any:
    """Return `base` updated by `over`: mappings merge key by key, other values replace."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    return {**base, **{key: merge(base.get(key), value) for key, value in over.items()}}


def apply_override(node: Any, dotted: str, value: Any) -> Any:
    """Return a copy of the document with one field set.

    Args:
        node: the document, or a part of it.
        dotted: name of the field; a number selects a position of a list. If a parent of the field is neither a mapping
            nor a list, it is replaced by a mapping.
        value: the new value.

    Raises:
        ConfigError: the position does not exist.
    """

    def updated(node: Any, names: Sequence[str]) -> Any:
        if not names:
            return value
        head, *rest = names
        if isinstance(node, list):
            if not head.isdecimal() or int(head) >= len(node):
                raise ConfigError(
                    FieldProblem(f"--{dotted}", f"got {head!r}; the list has the positions 0 to {len(node) - 1}")
                )
            position = int(head)
            return [*node[:position], updated(node[position], rest), *node[position + 1 :]]
        mapping = node if isinstance(node, dict) else {}
        key = next((key for key in mapping if str(key) == head), head)
        return {**mapping, key: updated(mapping.get(key), rest)}

    return updated(node, dotted.split("."))


def assemble(configs: Sequence[str], overrides: Sequence[tuple[str, str]]) -> Document:
    """Return one document: files merged in order (later ones win), then overrides (dotted name, YAML text)."""
    document: Document = {}
    for config in configs:
        document = merge(document, read_document(config))
    for dotted, text in overrides:
        document = apply_override(document, dotted, read_yaml(text, f"--{dotted}"))
    return document


def validate_document(document: Mapping[str, Any]) -> JobSpec:
    """Return the validated document; raises ConfigError with one problem for each invalid field."""
    if RECIPE in document:
        raise ConfigError(
            FieldProblem(
                RECIPE,
                f"got {document[RECIPE]!r}, a recipe that chooses settings for `fit`, `check`, `plan`, `lr-find` and "
                "`submit`; other commands need the complete document, which `pyramidion fit --print-config` prints",
            )
        )
    try:
        return JobSpec.model_validate(document)
    except ValidationError as error:
        raise ConfigError(explain(error, document)) from error


def load_job(configs: Sequence[str], overrides: Sequence[tuple[str, str]] = ()) -> JobSpec:
    """Return the validated document from files (or `recipe:NAME`) and overrides (dotted name, YAML text)."""
    if not configs and not overrides:
        raise ConfigError(FieldProblem("--config", "missing; name a YAML file, or a recipe such as recipe:demo"))
    return validate_document(assemble(configs, overrides))


def resolved(job: JobSpec) -> Document:
    """Return the complete document, with all defaults, as plain types."""
    return job.model_dump(mode="json")
