"""The page of the operator is complete and correct."""

import re
import shlex
from configparser import ConfigParser
from itertools import takewhile
from pathlib import Path
from textwrap import dedent

import pytest

from service.commands.registry import COMMANDS
from service.settings import PREFIX, Settings
from service.settings_secrets import SECRETS
from service.states import FailureKind
from tests.compose import FILE, ROOT, services
from tests.service.command_runs import run_command
from tests.settings_table import PAGE, page_with_section

TEXT = PAGE.read_text("utf-8")
TYPED = [line.removeprefix("$ ") for line in TEXT.splitlines() if line.lstrip().startswith("$ ")]


def test_table_has_every_setting() -> None:
    assert page_with_section(TEXT) == TEXT, "run: python -m tests.settings_table"


def test_settings_on_the_page_exist() -> None:
    names = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    others = {*(f"{variable}_FILE" for variable in SECRETS), *re.findall(r"\$\{(\w+)", FILE.read_text())}
    others |= {f"{PREFIX}{name}" for name in ("API_KEY", "API_KEY_FILE", "URL")}  # of clients
    others |= {f"{PREFIX}NODE_AWS{name}" for name in ("", "_ACCESS_KEY_ID", "_SECRET_ACCESS_KEY")}  # of nodes
    others |= {f"{PREFIX}NODE", f"{PREFIX}NODES_INTERFACE"}
    assert set(re.findall(rf"{PREFIX}[A-Z0-9_]*[A-Z0-9]", TEXT)) <= names | others


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("pyramidion ")])
def test_command_exists(line: str) -> None:
    assert shlex.split(line)[1] in COMMANDS


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("pyramidion ")])
def test_options_of_a_command_exist(line: str, tmp_path: Path) -> None:
    words = shlex.split(line.partition(" >")[0])[1:]
    options = {word for word in words if word.startswith("--")}
    named = list(takewhile(lambda word: not word.startswith("--"), words))
    shown = run_command(*named, "--help", cwd=tmp_path, environment={})
    assert shown.returncode == 0, shown.stderr
    known = set(re.findall(r"--[a-z][a-z0-9-]*", shown.stdout))
    assert options <= known


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("docker compose ")])
def test_command_of_compose_names_a_service_and_a_command_of_ours(line: str) -> None:
    words = shlex.split(line)
    if words[2] in ("exec", "run", "stop", "start"):
        name = next(word for word in words if word in services())
        inside = words[words.index(name) + 1 :]
        assert inside[:1] != ["pyramidion"] or inside[1] in COMMANDS
    scaled = {word.partition("=")[0] for word in words if word.endswith("=0")}
    assert scaled <= set(services())


def test_unit_of_systemd_lets_jobs_outlive_the_service() -> None:
    unit = ConfigParser()
    unit.read_string(dedent(TEXT.partition("```ini\n")[2].partition("```")[0]))
    assert unit["Service"]["KillMode"] == "process"


def test_every_kind_of_failure_has_an_entry_in_the_runbook() -> None:
    runbook = TEXT.partition("## Runbook\n")[2].partition("\n## ")[0]
    assert [kind.value for kind in FailureKind if f"`{kind.value}`" not in runbook] == []


def test_contents_and_links_are_complete() -> None:
    headings = re.findall(r"^## (.+)$", TEXT, flags=re.MULTILINE)
    anchors = [heading.lower().replace(" ", "-") for heading in headings]
    assert re.findall(r"\d+\. \[[^\]]+\]\(#([\w-]+)\)", TEXT) == anchors
    files = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in link]
    assert [link for link in files if not Path(ROOT / "docs" / link).exists()] == []
