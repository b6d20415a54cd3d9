"""Options that several commands share: the document, its fields by dotted name, and where to look for files."""

import argparse
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.links import FOLLOW_LINKS_OPTION, set_link_policy
from pipelines.base.suggested_commands import set_data_arguments
from pipelines.data.dataset.roots import data_roots_from_environment
from pipelines.preflight import WEIGHTS_ROOTS_VARIABLE, Places
from pipelines.spec.fields import field_groups

OVERRIDES_HELP = "Any field of the document is an option by its dotted name: --model.optimizer.lr 1e-3"

Overrides = Sequence[tuple[str, str]]
"""Fields of the document that a command line sets: dotted names with YAML texts."""


class CommandParser(argparse.ArgumentParser):
    """Parser of a command's options; the fields of the document that a command line sets are kept apart.

    Options have hyphens; their old spellings with underscores (`--run_dir`) are accepted.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})
        self._fields: set[str] = set()

    def add_document_fields(self) -> None:
        """List every field of the document in the help."""
        self._fields.update(f"--{name}" for name in add_document_fields(self, skip={"data.root"}))

    def parse_command_line(self, words: Sequence[str]) -> tuple[argparse.Namespace, Overrides]:
        """Return the values of the command's options, and the fields of the document that are set.

        Raises:
            ConfigError: a word is neither, or a field has no value.
        """
        own: list[str] = []
        fields: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if not word.startswith("--") or self._is_own(word):
                own.append(word)
                continue
            fields.append(word)
            if "=" not in word and rest and not rest[0].startswith("--"):
                fields.append(rest.pop(0))
        options, unknown = self.parse_known_intermixed_args(own)
        return options, dotted_overrides([*unknown, *fields])

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse words; options may have their old spellings."""
        words = sys.argv[1:] if args is None else args
        return super().parse_known_args([self._with_hyphens(word) for word in words], namespace)

    def _is_own(self, word: str) -> bool:
        option = self._with_hyphens(word).partition("=")[0]
        return option in self._option_string_actions and option not in self._fields

    def _with_hyphens(self, word: str) -> str:
        option, equals, value = word.partition("=")
        hyphenated = option.replace("_", "-")
        known = self._option_string_actions
        is_old = option.startswith("--") and option not in known and hyphenated in known
        return f"{hyphenated}{equals}{value}" if is_old else word


def add_document_fields(parser: argparse.ArgumentParser, skip: Collection[str] = ()) -> list[str]:
    """Add an argument for each field that every document has, with help for all fields; return the arguments' names.

    Args:
        parser: argparse's, or jsonargparse's.
        skip: fields that are not added.
    """
    names: list[str] = []
    for section in field_groups():
        title = section.title or "document"
        if section.is_pattern:
            lines = [f"--{field.name}  {field.type}  {field.help}" for field in section.fields]
            parser.add_argument_group(title, "\n".join([section.description, *lines]))
            continue
        group = parser.add_argument_group(title, section.description)
        for field in section.fields:
            if field.name not in skip:
                # No type: jsonargparse would read texts once more, as YAML.
                text = field.help.replace("%", "%%")
                group.add_argument(f"--{field.name}", metavar=field.type, help=text, default=argparse.SUPPRESS)
                names.append(field.name)
    return names


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, which may be repeated."""
    parser.add_argument("--config", action="append", default=[], metavar="FILE", help="a file, or recipe:NAME")


def add_data_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say where the data is; return their group, for further places."""
    places = parser.add_argument_group("where to look for files")
    places.add_argument(
        "--data-root", action="append", default=[], metavar="DIR", help="contains the document's data.root; repeatable"
    )
    places.add_argument("--data.root", metavar="DIR", help="the data itself, in any folder")
    places.add_argument(
        FOLLOW_LINKS_OPTION,
        action="store_true",
        help="follow links that lead out of the folder of the data or the weights",
    )
    return places


def places_of(options: argparse.Namespace) -> Places:
    """Return where to look for files: the options' folders, else those of the environment, else the working directory.

    From then on, links that lead out of the data are followed if the options say so, and messages suggest commands with
    these options.
    """
    set_link_policy(follow=options.follow_links)
    data_root = getattr(options, "data.root")
    set_data_arguments(_data_arguments(options))
    weights = getattr(options, "weights_root", None) or _weights_roots_from_environment()
    return Places(
        data_roots=[Path(root) for root in options.data_root] or data_roots_from_environment(),
        weights_roots=[Path(root) for root in weights] or [Path()],
        data_root=Path(data_root) if data_root else None,
        are_given=bool(options.data_root or data_root),
        named_data_roots=[Path(root) for root in options.data_root],
    )


def _data_arguments(options: argparse.Namespace) -> list[str]:
    """Return the words that name the document and its data; none for a command that uses a run folder's document."""
    configs = getattr(options, "config", [])
    if not configs:
        return []
    data_root = getattr(options, "data.root")
    words = [word for config in configs for word in ("--config", str(config))]
    words += [word for root in options.data_root for word in ("--data-root", str(root))]
    words += ["--data.root", str(data_root)] if data_root else []
    return [*words, *([FOLLOW_LINKS_OPTION] if options.follow_links else [])]


def _weights_roots_from_environment() -> list[str]:
    return [part for part in os.environ.get(WEIGHTS_ROOTS_VARIABLE, "").split(os.pathsep) if part]


def dotted_overrides(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, YAML text) of `--a.b value` and `--a.b=value`; raises ConfigError for anything else."""
    return list(_overrides(list(words)))


def _overrides(words: list[str]) -> Iterator[tuple[str, str]]:
    while words:
        word = words.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise ConfigError(
                FieldProblem("", f"got {word!r}; fields of the document are set as --name.of.field value")
            )
        if not equals:
            if not words or words[0].startswith("--"):
                raise ConfigError(FieldProblem(word, "has no value"))
            value = words.pop(0)
        yield name, value
