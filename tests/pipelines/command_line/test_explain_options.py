"""The command line of `explain`: mistakes are explained before torch is imported."""

import pytest

from pipelines.base.errors import ConfigError
from pipelines.command_line.explain_options import explain_parser, explanation_request

REQUIRED = ("--run-dir", "runs/x", "--image", "a.jpg")


def test_options_name_the_prediction_and_the_method() -> None:
    words = (*REQUIRED, "--task", "cells", "--prediction", "3", "--class", "WBC", "--method", "occlusion", "--steps=8")
    options, overrides = explain_parser().parse_command_line(words)
    request = explanation_request(options)
    assert (request.task, request.prediction, request.label) == ("cells", 3, "WBC")
    assert (request.method, request.steps) == ("occlusion", 8)
    assert list(overrides) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--prediction", "-1"), "--prediction: got -1; write 0 for the first one, and at most 1000000"),
        (("--prediction", "1000001"), "--prediction: got 1000001; write 0 for the first one, and at most 1000000"),
        (("--steps", "3"), "--steps: got 3; write 4 to 64"),
        (("--steps", "65"), "--steps: got 65; write 4 to 64"),
    ],
)
def test_number_out_of_range_is_reported(words: tuple[str, ...], message: str) -> None:
    options, _ = explain_parser().parse_command_line((*REQUIRED, *words))
    with pytest.raises(ConfigError) as caught:
        explanation_request(options)
    assert str(caught.value) == message
