"""The page about label formats: its snippets are sources of valid documents, and it has a section for each format."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.formats.catalog import FORMATS, WRITERS, name_of
from pipelines.spec.job import JobSpec

PAGE = (Path(__file__).resolve().parents[3] / "docs/formats.md").read_text("utf-8")
SNIPPETS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_snippet_is_a_source_of_a_document(snippet: str) -> None:
    source: dict[str, Any] = yaml.safe_load(snippet)
    heads = {"things": {"head": "fcos"}, "kind": {"head": "multiclass"}}
    tasks = {name: heads[name] for layer in source["labels"] for name in layer["tasks"]}
    model = {"backbone": {"name": "resnet18"}, "tasks": tasks}
    job = JobSpec.model_validate({"name": "t", "model": model, "data": {"root": "my-set", "sources": {"s": source}}})
    assert job.data.sources["s"].labels


def test_every_format_has_a_snippet_and_a_row() -> None:
    rows = dict(re.findall(r"^\| \[`(\w+)`\].*?\|.*?\|(.*?)\|", PAGE, flags=re.MULTILINE))
    for layer in FORMATS:
        name = name_of(layer)
        assert any(f"format: {name}," in snippet for snippet in SNIPPETS), name
        assert (rows[name].strip() == "yes") == (name in WRITERS)


def test_links_of_the_page_are_sections() -> None:
    sections = {
        line.removeprefix("## ").lower().replace(" ", "-") for line in PAGE.splitlines() if line.startswith("## ")
    }
    assert {link for link in re.findall(r"\(#([\w-]+)\)", PAGE) if link not in sections} == set()
