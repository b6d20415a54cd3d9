"""Names of files and folders of a run folder are spelled only in `pipelines/run_folder`."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from pipelines.run_folder.layout import AttemptDir, ExportedModelDir, RunDir

ROOT = Path(__file__).parents[3]
BASE = Path("run")


@cache
def names() -> frozenset[str]:
    """Return all names of files and folders in the layout."""
    found = {"attempts", "eval"}
    for owner in (RunDir.of(BASE), AttemptDir(BASE), ExportedModelDir(BASE)):
        properties = [name for name, value in vars(type(owner)).items() if isinstance(value, property)]
        paths = [getattr(owner, name) for name in properties if name not in ("is_new", "has_checkpoint")]
        found |= {part for path in paths for part in path.relative_to(BASE).parts}
    return frozenset(found)


ARTIFACTS = "artifacts"
"""A part of the addresses of run folders' files in REST, which the web page requests."""


def spelled(source: str) -> Iterator[str]:
    """Yield the names that a source file spells as a string, as a part of a path, or as the operand of `/`."""
    tree = ast.parse(source)
    in_f_strings = {
        id(part): ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    files = {name for name in names() if "." in name}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            first, *others = node.value.split("/")
            parts = others if id(node) in in_f_strings else [first, *others]
            if ARTIFACTS not in in_f_strings.get(id(node), node.value).split("/"):
                yield from files.intersection(parts)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
            yield from names().intersection(str(node.right.value).split("/"))


def test_other_modules_do_not_spell_names_of_the_run_folder() -> None:
    # Parsing takes seconds, and a file without the letters of a name cannot spell it.
    any_name = re.compile("|".join(map(re.escape, names())))
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for package in ("pipelines", "service")
        for path in sorted((ROOT / package).rglob("*.py"))
        if (ROOT / "pipelines/run_folder") not in path.parents and any_name.search(text := path.read_text("utf-8"))
        for name in spelled(text)
    ]
    assert found == [], "take the path from RunDir, AttemptDir or ExportedModelDir of pipelines.run_folder.layout"


@pytest.mark.parametrize(
    "source",
    ['path = folder / "attempts" / "1"', 'open(f"{folder}/exit.json")', 'below(folder, "checkpoints/best.ckpt")'],
)
def test_spelled_name_is_found(source: str) -> None:
    assert list(spelled(source))


@pytest.mark.parametrize(
    "source", ['"""exit.json holds the exit code."""', 'print("see log.txt")', 'f"{database}.lock"']
)
def test_name_in_a_sentence_is_not_a_path(source: str) -> None:
    assert not list(spelled(source))
