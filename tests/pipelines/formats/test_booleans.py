"""Truth values in label files are read as numbers and as words."""

from typing import Any

import pytest

from pipelines.formats.booleans import read_boolean


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "1.0", "true", "True", " TRUE ", "yes", "Y", "t", "on"])
def test_words_and_numbers_for_true_are_read(value: Any) -> None:
    assert read_boolean(value) is True


@pytest.mark.parametrize("value", [None, False, 0, 0.0, "", "0", "0.0", "-0", "false", "No", "n", "off"])
def test_words_and_numbers_for_false_and_empty_values_are_read(value: Any) -> None:
    assert read_boolean(value) is False


@pytest.mark.parametrize("value", [2, -1, 0.5, float("nan"), "2", "maybe", "nan", "Unspecified", [], {}])
def test_other_values_are_neither(value: Any) -> None:
    assert read_boolean(value) is None
