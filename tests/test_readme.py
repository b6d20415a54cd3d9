"""Every command, document and link of the README works."""

import contextlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backbones.catalog.checks import require_surgery
from backbones.catalog.lookup import resolve
from pipelines.command_line.export_options import PARSERS as EXPORT_PARSERS
from pipelines.command_line.parsers import parser_of
from pipelines.data.synth.dataset import write_synthetic
from pipelines.spec.load import (
    RECIPE,
    assemble,
    load_job,
    merge,
    read_document,
    read_yaml,
    recipe_names,
    validate_document,
)
from service.cli import main
from service.commands.registry import COMMANDS, DATA_COMMANDS, TRAINER_COMMANDS, WEIGHTS_COMMANDS
from tests.pipelines.data.drafting.exports import write_label_studio

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")
TYPED = [line.removeprefix("$ ").partition("  #")[0].strip() for line in README.splitlines() if line.startswith("$ ")]
LIMIT_S = 900
"""Time after which a command of the README is taken to hang, also on a machine with much else to do."""
COMMAND_LINES = [line for line in TYPED if line.startswith("pyramidion ")]
_SHORT = shlex.split(
    "--trainer.max_epochs 1 --data.image_size 64 --model.backbone.name resnet14_thin --model.backbone.weights none"
)
SMALL = {"fit": [*_SHORT, "--tracking", "null", "--evaluation.plots", "false"], "submit": _SHORT, "plan": _SHORT}
"""Further words that make a command quick, by command."""


def documents_of(page: str) -> list[str]:
    return re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """The document of the README as a file."""
    block, *_ = documents_of("README.md")
    path = tmp_path / "screws.yaml"
    path.write_text(block)
    return path


def test_the_document_is_valid(document: Path) -> None:
    job = load_job([str(document)])
    assert job.data.sources["line1"].labels[0].tasks == ("parts",)


@pytest.mark.parametrize("line", [line for line in TYPED if line.startswith("make ")])
def test_make_has_the_target(line: str) -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE)
    assert set(line.split()[1:]) <= set(targets)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_the_command_line_is_valid(line: str, document: Path) -> None:
    command, *words = shlex.split(line)[1:]
    assert command in COMMANDS
    if command == "data":
        assert words[0] in DATA_COMMANDS
    if command == "weights":
        assert words[0] in WEIGHTS_COMMANDS
    if command in EXPORT_PARSERS:
        assert EXPORT_PARSERS[command]().parse_command_line(words)[1] == []
    elif command in TRAINER_COMMANDS or {"--run-dir", "--run_dir"} & set(words):
        options, overrides = parser_of(command).parse_command_line(words)
        if command == "fit":
            assert options.config == [document.name]
            load_job([str(document)], overrides)


COMPLETE_RECIPES = [name for name in recipe_names() if RECIPE not in read_document(f"recipe:{name}")]


def test_every_recipe_is_listed_and_valid() -> None:
    assert set(re.findall(r"`recipe:([a-z_]+)`", README)) == set(recipe_names())
    assert [name for name in COMPLETE_RECIPES if load_job([f"recipe:{name}"]).name != name] == []


def test_every_file_and_link_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]
    paths = re.findall(r"`((?:backbones|heads|pipelines|service|docs|tests)/[\w./]*)`", README)
    assert links
    assert paths
    assert [path for path in (*links, *paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/finetuning.md", "docs/backbones.md", "docs/detection.md"])
def test_parts_of_documents_on_a_page_are_valid_over_a_recipe(page: str) -> None:
    parts = [read_yaml(block, page) for block in documents_of(page)]
    parts = [part for part in parts if "name" not in part]
    assert parts
    for part in parts:
        recipe = assemble(["recipe:bccd"], [])
        if "backbone" in part.get("model", {}):
            recipe["model"].pop("backbone")  # the part replaces the network
        for name, task in part.get("model", {}).get("tasks", {}).items():
            if "head" in task:
                recipe["model"]["tasks"].pop(name, None)  # the part replaces the head
        job = validate_document(merge(recipe, part))
        require_surgery(resolve(job.model.backbone.network), job.model.backbone.surgery)


def test_the_commands_of_the_first_steps_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYRAMIDION_DATA_ROOTS", raising=False)
    write_label_studio(tmp_path / "photos")
    page = (ROOT / "docs/first_steps.md").read_text("utf-8")
    lines = [line.removeprefix("$ pyramidion ") for line in page.splitlines() if line.startswith("$ ")]
    # These need torch, and replace this process; the tests of the commands run them.
    others = [line for line in lines if line.startswith(("data show ", "fit ", "predict "))]
    assert len(others) == 3
    assert [line for line in lines if line not in others and main(shlex.split(line)) != 0] == []
    assert load_job(["job.yaml"]).data.sources["images"].split_file == "splits.csv"


@pytest.mark.integration
@pytest.mark.timeout(2 * LIMIT_S)
def test_every_command_runs(document: Path) -> None:
    """A newcomer's path through the README, with a small data set and one epoch of a small network."""
    home = document.parent
    screws = home / "data/screws"
    write_synthetic(screws, num_train=16, num_val=4, num_test=4, image_size=128)
    assert json.loads((screws / "annotations/instances_train.json").read_text())["annotations"]
    shutil.copy(screws / "images/test/000001.jpg", home / "photo.jpg")
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": str(ROOT)}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment |= {"PYRAMIDION_PORT": port, "PYRAMIDION_URL": f"http://127.0.0.1:{port}"}
    job_id = ""
    with contextlib.ExitStack() as services:
        for line in (line for line in TYPED if line.startswith(("pyramidion ", "curl "))):
            filled = line.replace("~", str(home)).replace(" ID", f" {job_id}").replace("/ID", f"/{job_id}")
            if line.startswith("curl "):
                curl = [*shlex.split(filled.replace(":8000", f":{port}")), "--fail-with-body"]
                answer = subprocess.run(curl, cwd=home, capture_output=True, text=True, timeout=60)
                assert answer.returncode == 0, f"{line}\n{answer.stdout}"
                continue
            words, _, target = filled.partition(" > ")
            words = shlex.split(words)[1:]
            command = [sys.executable, "-m", "service.cli", *words, *SMALL.get(words[0], [])]
            if words[0] == "serve":
                serve = subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True)
                services.enter_context(serve)
                services.callback(serve.terminate)
                assert serve.stdout is not None
                assert serve.stdout.readline().startswith("serving http")
                continue
            done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            if target:
                (home / target).write_text(done.stdout)
            elif words[0] == "submit":
                job_id = done.stdout.strip()
    assert (home / "runs/screws/result.json").is_file()
    assert list((home / "pictures").glob("*.png"))
