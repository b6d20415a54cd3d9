"""`docs/backbones.md` is up to date, and its examples are valid."""

import re

import pytest
import yaml

from backbones.measured.page import PAGE_PATH, render_page
from pipelines.spec.model import BackboneSpec

EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE_PATH.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_page_equals_the_generated_text() -> None:
    assert PAGE_PATH.read_text(encoding="utf-8") == render_page(), "run: make backbones"


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_page_is_a_valid_backbone(example: str) -> None:
    backbone = BackboneSpec.model_validate(yaml.safe_load(example)["model"]["backbone"])
    assert (backbone.name is None) != (backbone.design is None)


def test_page_has_examples() -> None:
    assert len(EXAMPLES) >= 4
