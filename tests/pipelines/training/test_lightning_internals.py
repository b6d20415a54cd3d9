"""Only one module uses private names of Lightning."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[3]
SEAM = "pipelines.training.lightning_internals"


@cache
def lightning_modules() -> list[ModuleType]:
    """Return the project's modules that import Lightning, except the one that may use its private names."""
    paths = [path for package in ("pipelines", "service") for path in sorted((ROOT / package).rglob("*.py"))]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    texts = {name: path.read_text("utf-8") for name, path in names.items() if name != SEAM}
    # Most modules do not have the word, and parsing them takes seconds.
    users = [name for name, text in texts.items() if "lightning" in text and list(lightning_imports(text))]
    return [importlib.import_module(name) for name in users]


def lightning_imports(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in found if name.partition(".")[0] == "lightning" or name.startswith(SEAM))


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def private_names_of_bases(cls: type) -> set[str]:
    """Return the private methods and attributes that a class inherits from Lightning."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.partition(".")[0] == "lightning" or base.__module__ == SEAM:
            names |= used_in_class(base)
    return set(filter(private, names))


@cache
def used_in_class(cls: type) -> frozenset[str]:
    """Return the names of attributes and methods in the source of a class."""
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls)))
    on_self = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    return frozenset(on_self | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)})


def test_no_other_module_imports_a_private_name() -> None:
    found = [
        f"{module.__name__}: {name}"
        for module in lightning_modules()
        for name in lightning_imports(inspect.getsource(module))
        if any(map(private, name.split(".")))
    ]
    assert found == []


def test_no_class_uses_a_private_name_that_it_inherits() -> None:
    found = [
        f"{cls.__module__}.{cls.__name__}: {name}"
        for module in lightning_modules()
        for _, cls in inspect.getmembers(module, inspect.isclass)
        if cls.__module__ == module.__name__
        for name in sorted(private_names_of_bases(cls) & used_in_class(cls))
    ]
    assert found == []


def test_no_other_module_uses_a_private_name_of_another_object() -> None:
    found = [
        f"{module.__name__}: {ast.unparse(node)}"
        for module in lightning_modules()
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Attribute) and private(node.attr)
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls", "os"))
    ]
    assert found == []


def test_check_finds_private_names_of_lightning_classes() -> None:
    seam = importlib.import_module(SEAM)
    assert {"_launcher", "_process_group_backend", "_configure_launcher"} <= private_names_of_bases(
        seam.CustomizableDDPStrategy
    )
