"""The Python files of the project as syntax trees."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("backbones", "heads", "pipelines", "service")


@cache
def python_files() -> list[Path]:
    return [path.relative_to(ROOT) for name in (*PACKAGES, "tests") for path in sorted((ROOT / name).rglob("*.py"))]


@cache
def nodes(path: Path) -> list[ast.AST]:
    """Nodes of the syntax tree of a file; the first one is the module."""
    return list(ast.walk(ast.parse((ROOT / path).read_text("utf-8"))))


@cache
def imported_names(path: Path) -> list[str]:
    """Full names of what a file imports, inside functions too."""
    names: list[str] = []
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names
