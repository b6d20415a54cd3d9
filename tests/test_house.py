"""The house rules that no other tool checks: the layout, and what each file may contain."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from heads.base import Prediction, Target
from heads.spec import HEAD_SPECS
from pipelines.tasks.kinds import KINDS, TASK_SPECS
from tests.source_files import PACKAGES, ROOT, imported_names, nodes, python_files

TOP_LEVEL = {
    "backbones", "heads", "pipelines", "service", "tests", "docs",
    "pyproject.toml", "README.md", "LICENSE", "Makefile", "CHANGELOG.md", "constraints.txt", "Dockerfile",
    "docker-compose.yml",
}  # fmt: skip
MAX_LINES = 300
MAX_FILES_WITH_BRANCHES_ON_KINDS = 0
MACHINE = re.compile(
    r"(?<![\w.~$}])/(?:work|home|root|mnt|workspace|Users)/"
    r"|\b(?:pypi|pythonhosted|artifactory)[.]\w|download[.]pytorch[.]org/whl"
    r"|--(?:extra-)?index-url|PIP_(?:EXTRA_)?INDEX_URL"
)
"""A path of one machine, or where packages are had from: the project has neither."""


def tracked_files() -> list[Path]:
    """Files that git knows, or would take; the test skips where there is no git checkout."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [Path(line) for line in listing.splitlines() if (ROOT / line).is_file()]


def test_the_top_level_is_fixed() -> None:
    assert {path.parts[0] for path in tracked_files() if not path.parts[0].startswith(".")} <= TOP_LEVEL


def test_everything_at_the_top_level_is_there() -> None:
    assert [name for name in sorted(TOP_LEVEL) if not (ROOT / name).exists()] == []


def test_no_init_file_imports_anything() -> None:
    inits = [path for path in python_files() if path.name == "__init__.py"]
    assert {path.parts[0] for path in inits} == set(PACKAGES), "no __init__.py below tests: it would shadow a package"
    assert [str(path) for path in inits if imported_names(path)] == []


def test_no_file_names_a_machines_path_or_a_package_host() -> None:
    found = [
        f"{path}:{number}: {hit.group()}"
        for path in tracked_files()
        for number, line in enumerate((ROOT / path).read_text("utf-8", errors="replace").splitlines(), start=1)
        if (hit := MACHINE.search(line))
    ]
    assert found == [], "name a data root or an environment variable, and leave the package host to pip's settings"


@pytest.mark.parametrize(
    "parts", [(" /", "work/shared"), ("'/", "home/me"), ("https://", "pypi", ".org/simple"), ("--", "index-url x")]
)
def test_what_belongs_to_a_machine_is_known(parts: tuple[str, ...]) -> None:
    assert MACHINE.search("".join(parts))


def test_files_hold_one_idea() -> None:
    lengths = {str(path): len((ROOT / path).read_text("utf-8").splitlines()) for path in python_files()}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def test_no_two_classes_of_the_product_share_a_name() -> None:
    names = [
        node.name
        for path in python_files()
        if path.parts[0] in PACKAGES
        for node in nodes(path)
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_names_say_what_a_file_is_about() -> None:
    vague = {"utils", "helpers", "manager", "common", "cfg", "tmp", "misc"}
    assert [str(path) for path in python_files() if vague & set(path.with_suffix("").parts)] == []


def test_every_decision_is_numbered_once_and_listed() -> None:
    decisions = sorted(path.name for path in (ROOT / "docs/adr").glob("*.md") if path.name != "README.md")
    assert [name[:4] for name in decisions] == [f"{number:04d}" for number in range(1, len(decisions) + 1)]
    listed = (ROOT / "docs/adr/README.md").read_text("utf-8")
    assert [name for name in decisions if f"({name})" not in listed] == []


def task_kind_names() -> tuple[set[str], set[str]]:
    """Names of kinds and heads as documents and results spell them, and of the classes that belong to one kind."""
    values = {*KINDS, *TASK_SPECS}
    classes = {spec.__name__ for spec in (*TASK_SPECS.values(), *HEAD_SPECS.values())}
    classes |= {kind.__name__ for base in (Target, Prediction) for kind in base.__subclasses__()}
    for path in (ROOT / "pipelines/tasks").glob("*/**/*.py"):
        if path.parent.name != "tensors" or path.parent.parent.name != "tasks":
            classes |= {node.name for node in nodes(path) if isinstance(node, ast.ClassDef)}
    return values, classes


def branches_on_kinds(tree: ast.AST, values: set[str], classes: set[str]) -> list[int]:
    """Lines that compare with the name or a class of a kind, match it, or look it up in a table."""

    def names_a_kind(*nodes: ast.AST | None) -> bool:
        parts = [part for node in nodes if node is not None for part in ast.walk(node)]
        return any(
            (isinstance(part, ast.Constant) and part.value in values)
            or (isinstance(part, ast.Name) and part.id in classes)
            or (isinstance(part, ast.Attribute) and part.attr in classes)
            for part in parts
        )

    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, checked]):
                is_branch = names_a_kind(checked)
            case ast.Compare(left=left, comparators=others):
                is_branch = names_a_kind(left, *others)
            case ast.Dict(keys=keys):
                is_branch = names_a_kind(*keys)
            case ast.match_case(pattern=pattern):
                is_branch = names_a_kind(pattern)
            case _:
                is_branch = False
        if is_branch:
            lines.append(node.pattern.lineno if isinstance(node, ast.match_case) else node.lineno)
    return lines


def test_only_the_kinds_themselves_branch_on_the_kind_of_a_task() -> None:
    values, classes = task_kind_names()
    found = {
        str(path): lines
        for path in python_files()
        if path.parts[0] in ("pipelines", "service") and path.parts[:2] != ("pipelines", "tasks")
        if (lines := branches_on_kinds(nodes(path)[0], values, classes))
    }
    assert len(found) <= MAX_FILES_WITH_BRANCHES_ON_KINDS, f"ask the contract of pipelines/tasks/base.py: {found}"


@pytest.mark.parametrize(
    "code",
    [
        "isinstance(task, DetectionSpec | EmbeddingSpec)",
        "isinstance(target, base.BoxTarget)",
        "result['kind'] == 'detection'",
        "kind in ('classification', 'embedding')",
        "type(task) is FCOSSpec",
        "{'detection': 1}[kind]",
        "match task:\n    case MulticlassSpec(): pass",
        "match task.head:\n    case 'fcos' | 'retinanet': pass",
    ],
)
def test_branch_on_the_kind_of_a_task_is_found(code: str) -> None:
    assert branches_on_kinds(ast.parse(code), *task_kind_names())


def test_use_of_a_kind_without_a_branch_is_allowed() -> None:
    code = "isinstance(task, TaskSpec); kind.name == name; {'boxes': DetectionSpec}; FCOSSpec(head='fcos')"
    assert branches_on_kinds(ast.parse(code), *task_kind_names()) == []
