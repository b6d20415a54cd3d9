"""Messages suggest commands that can be copied: they name the user's own document and data."""

from pipelines.base.links import LINKS_VARIABLE
from pipelines.base.suggested_commands import next_steps, set_data_arguments, suggested
from pipelines.command_line.arguments import CommandParser, add_config_option, add_data_options, places_of


def parse(*words: str, with_config: bool = True) -> None:
    parser = CommandParser(prog="x")
    if with_config:
        add_config_option(parser)
    add_data_options(parser)
    places_of(parser.parse_command_line(words)[0])


def test_suggested_command_repeats_the_document_and_the_places_of_the_data() -> None:
    parse("--config", "my job.yaml", "--data-root", "/d", "--follow-links", "--trainer.max_epochs", "3")
    words = "--config 'my job.yaml' --data-root /d --follow-links"
    assert suggested("data split", "--write") == f"pyramidion data split {words} --write"
    assert next_steps("data check", "fit") == f"Next:\n  pyramidion data check {words}\n  pyramidion fit {words}"
    parse("--config", "a.yaml", "--data.root", "d")
    assert suggested("fit") == "pyramidion fit --config a.yaml --data.root d"


def test_command_on_a_run_folder_suggests_commands_without_a_document() -> None:
    parse("--data-root", "/d", with_config=False)
    assert suggested("data split") == "pyramidion data split"


def test_processes_of_the_service_suggest_commands_without_a_document() -> None:
    set_data_arguments(["--config", "/service/jobs/1/job.yaml"], environ={LINKS_VARIABLE: "refuse"})
    assert suggested("data split", "--write") == "pyramidion data split --write"
