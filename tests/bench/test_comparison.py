"""Settings of the comparisons."""

import pytest

from pipelines.command_line.parsers import parser_of
from pipelines.spec.load import assemble, validate_document
from tests.bench import comparison


@pytest.mark.parametrize(
    ("part", "setting"), [(part, setting) for part, settings in comparison.COMPARISONS.items() for setting in settings]
)
def test_each_row_is_a_valid_document_of_equal_length(part: str, setting: str) -> None:
    options, overrides = parser_of("fit").parse_command_line(comparison.training(part, setting, seed=2).options)
    job = validate_document(assemble(options.config, overrides))
    assert (job.seed_everything, job.trainer.max_epochs, job.data.root) == (2, 24, "bccd")
