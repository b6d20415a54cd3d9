"""The page about the data check lists all kinds of findings."""

import re
from pathlib import Path

import pytest

from pipelines.base.findings import KINDS

PAGE = (Path(__file__).parents[4] / "docs" / "data_check.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("severity", "title"), [("error", "Errors"), ("warning", "Warnings")])
def test_page_has_each_kind_with_cause_and_remedy_under_its_severity(severity: str, title: str) -> None:
    section = PAGE.partition(f"### {title}\n")[2].partition("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\S.*) \| (\S.*) \|$", section, re.MULTILINE)
    assert [kind for kind, _, _ in rows] == [kind for kind in KINDS if KINDS[kind].severity == severity]
