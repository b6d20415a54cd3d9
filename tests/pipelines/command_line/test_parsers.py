"""Options have hyphens, their old spellings are accepted, and the help lists the fields of the document."""

import pytest

from pipelines.base.errors import ConfigError
from pipelines.command_line.parsers import COMMANDS, parser_of

RUN = ("--run-dir", "runs/x")
CONFIG = ("--config", "a.yaml")
OPTIONS = [
    ("fit", "run_dir", (*CONFIG, "--run_dir", "runs/x"), "runs/x"),
    ("fit", "print_config", (*CONFIG, "--print_config"), True),
    ("fit", "weights_root", (*CONFIG, "--weights_root=w"), ["w"]),
    ("check", "data_root", (*CONFIG, "--data_root", "d"), ["d"]),
    ("plan", "data_root", (*CONFIG, "--data_root", "d"), ["d"]),
    ("validate", "run_dir", ("--run_dir", "runs/x"), "runs/x"),
    ("test", "run_dir", ("--run_dir=runs/x",), "runs/x"),
    ("predict", "run_dir", ("--run_dir", "runs/x", "--images", "a.jpg"), "runs/x"),
]


@pytest.mark.parametrize(("command", "name", "words", "value"), OPTIONS)
def test_old_spelling_of_an_option_is_accepted(command: str, name: str, words: tuple[str, ...], value: object) -> None:
    options, overrides = parser_of(command).parse_command_line(words)
    assert getattr(options, name) == value
    assert overrides == []
    hyphenated = [f"--{word[2:].replace('_', '-')}" if word.startswith("--") else word for word in words]
    assert parser_of(command).parse_command_line(hyphenated)[0] == options


@pytest.mark.parametrize("command", COMMANDS)
def test_options_are_shown_with_hyphens_only(command: str) -> None:
    options = [word for line in parser_of(command).format_help().splitlines() for word in line.split()[:1]]
    own = [word for word in options if word.startswith("--") and "." not in word and word != "--seed_everything"]
    assert own
    assert [word for word in own if "_" in word] == []


def test_fields_are_kept_in_their_order_and_apart_from_options() -> None:
    words = ("--model.unfreeze", "{0: none}", *CONFIG, "--model.unfreeze.1=all", "--data.root", "any", *RUN)
    options, overrides = parser_of("fit").parse_command_line(words)
    assert overrides == [("model.unfreeze", "{0: none}"), ("model.unfreeze.1", "all")]
    assert (options.config, options.run_dir, getattr(options, "data.root")) == (["a.yaml"], "runs/x", "any")


def test_field_without_a_value_before_an_option_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"--trainer.max_epochs: has no value"):
        parser_of("fit").parse_command_line(("--trainer.max_epochs", *RUN))


def test_negative_number_is_a_value() -> None:
    assert parser_of("fit").parse_command_line(("--a.b", "-1"))[1] == [("a.b", "-1")]


def test_help_of_fit_lists_fields_with_default_and_description() -> None:
    text = " ".join(parser_of("fit").format_help().split())
    assert "--trainer.max_epochs integer (default: 10)" in text
    assert "--model.neck.p6_from p5 | c5 (default: p5)" in text
    assert "model.tasks.NAME, head: fcos:" in text
    assert "--model.tasks.NAME.range_scale number" in text
    assert "data.sources.NAME.labels.0, format: coco:" in text
