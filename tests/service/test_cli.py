"""The command `pyramidion`; tests of imports, exit codes and streams run it as a process."""

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from backbones.catalog.facts import recorded_facts
from backbones.catalog.rows import CATALOG
from backbones.spec.design_presets import PRESETS
from backbones.spec.roadmap import ROADMAP
from service import cli
from service.commands.registry import COMMANDS, TRAINER_COMMANDS
from service.version import version
from tests.service.command_runs import Finished, run_command

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "torchvision", "lightning", "timm", "pydantic", "yaml", "rich", "numpy", "PIL", "mlflow")
EXCLUDED = {"predictor", "migrations"}
"""The predictor is excluded because it needs torch, the migrations because only Alembic imports them."""


def environment(**extra: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **extra}


def pyramidion(*arguments: str) -> Finished:
    return run_command(*arguments, cwd=ROOT, environment={})


def process(*arguments: str, cwd: Path = ROOT) -> Finished:
    """Run the command like an installed script, without the working directory on the path."""
    command = [sys.executable, "-P", "-m", "service.cli", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120)


def loaded_after(code: str) -> set[str]:
    """Return the names of the modules that a new process has imported after running `code`."""
    tail = "import sys; print('\\n'.join(sys.modules), file=sys.stderr)"
    command = [sys.executable, "-P", "-c", f"{code}\n{tail}"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=120, check=True)
    return set(done.stderr.split())


def test_help_lists_every_command() -> None:
    done = process("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ")} >= set(COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["fti"], ["data", "--help"]])
def test_help_imports_no_heavy_library(arguments: list[str]) -> None:
    loaded = loaded_after(f"from service.cli import main; main({arguments!r})")
    assert "service.cli" in loaded
    assert loaded & set(HEAVY) == set()


def test_help_takes_less_than_a_fifth_of_a_second() -> None:
    """CPU time, since other tests may run at the same time; the best of five runs, since caches may be cold."""

    def help_s() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    assert min(help_s() for _ in range(5)) < 0.2


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - set(TRAINER_COMMANDS)))
def test_every_command_of_the_service_has_help_with_hyphenated_options(command: str) -> None:
    done = pyramidion(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"pyramidion {command}" in done.stdout
    assert [word for word in done.stdout.split() if word.startswith("--") and "_" in word] == []


def test_service_without_the_predictor_never_imports_torch() -> None:
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "service").rglob("*.py")]
    modules = [".".join(path.parts) for path in files if path.name != "__init__" and not EXCLUDED & set(path.parts)]
    loaded = loaded_after("import " + ", ".join(modules))
    assert set(modules) <= loaded
    assert loaded & {"torch", "torchvision", "lightning", "timm"} == set()


def test_version_is_that_of_the_distribution() -> None:
    done = process("--version")
    assert (done.returncode, done.stdout) == (0, f"pyramidion {version()}\n")


def test_missing_command_is_a_usage_error_with_the_help() -> None:
    done = process()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Usage: pyramidion" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["fti"], "unknown command 'fti'; did you mean 'fit'"),
        (["predicts", "--run-dir", "x"], "unknown command 'predicts'; did you mean 'predict'"),
        (["zzz"], f"choose one of {', '.join(COMMANDS)}"),
        (["data", "chek"], "pyramidion data: unknown command 'chek'; did you mean 'check'"),
    ],
)
def test_unknown_command_is_reported_with_the_closest_name(arguments: list[str], hint: str) -> None:
    done = pyramidion(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert hint in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_backbones_lists_every_catalog_row() -> None:
    done = pyramidion("backbones")
    assert (done.returncode, done.stderr) == (0, "")
    assert [row for row in CATALOG.values() if not any(_shows(line, row) for line in done.stdout.splitlines())] == []


def _shows(line: str, row: Any) -> bool:
    facts = (row.family or "", row.paper or "", ", ".join(map(str, recorded_facts()[row.name].channels)))
    return line.split()[:1] == [row.name] and all(fact in line for fact in facts)


def test_backbones_describes_one_backbone() -> None:
    done = pyramidion("backbones", "resnet18")
    assert done.returncode == 0
    assert {
        "family: ResNet",
        "paper: arXiv 1512.03385",
        "built by: timm (resnet18.a1_in1k)",
        "default weights: apache-2.0",
        "parameters: 11,176,512 without the classifier",
        "channels: c3 128, c4 256, c5 512",
        "multiply-accumulates: 1.81 G for an image of 224x224 pixels",
        "image mean: 0.485, 0.456, 0.406",
    } <= set(done.stdout.splitlines())


def test_backbone_outside_the_catalog_is_described_without_measurements() -> None:
    done = pyramidion("backbones", "timm:resnet26.bt_in1k")
    assert (done.returncode, done.stderr) == (0, "")
    facts = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert facts["built by"] == "timm (resnet26.bt_in1k)"
    assert not {"parameters", "family", "paper"} & set(facts)


def test_weights_with_license_terms_are_shown_with_the_field_that_accepts_them() -> None:
    done = pyramidion("backbones", "timm:convnextv2_base")
    assert "cc-by-nc-4.0, which forbids commercial use; write `accept_license: true`" in done.stdout


@pytest.mark.parametrize("name", ["roadmap", "road"])
def test_roadmap_shows_the_costs_of_the_paper(name: str) -> None:
    done = pyramidion("backbones", name)
    assert (done.returncode, done.stderr) == (0, "")
    table, _, _ = done.stdout.partition("\n\n")
    assert len(table.splitlines()) == 1 + len(ROADMAP)
    for line, step in zip(table.splitlines()[1:], ROADMAP, strict=True):
        assert line.startswith(f"{step.name}  ")
        if step.paper_gmacs is not None:
            assert line.split()[-2:] == [str(step.paper_gmacs)] * 2


def test_presets_of_the_design_space_are_listed() -> None:
    done = pyramidion("backbones", "presets")
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in done.stdout.splitlines()[1 : 1 + len(PRESETS)]] == list(PRESETS)


def test_all_listed_backbones_are_valid_names_in_documents() -> None:
    from backbones.catalog.lookup import resolve

    names = pyramidion("backbones", "--all").stdout.split()
    assert len(names) == len(set(names)) > 1000
    assert [name for name in names[:: len(names) // 50] if resolve(name).name != name] == []


def test_unknown_backbone_is_reported_in_one_line_with_exit_code_78() -> None:
    done = pyramidion("backbones", "resnet5O")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith("error: backbone 'resnet5O'")
    assert "'resnet50'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_closed_pipe_causes_no_traceback() -> None:
    command = [sys.executable, "-P", "-m", "service.cli", "backbones", "--all"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == b""


def test_full_disk_is_one_error_line_and_a_closed_output_is_ignored() -> None:
    command = [sys.executable, "-P", "-m", "service.cli", "backbones"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: cannot write: No space left on device; free disk space or write elsewhere\n"
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], cwd=ROOT, env=environment(), capture_output=True)
    assert (closed.returncode, closed.stderr) == (0, b"")


@pytest.mark.parametrize("command", TRAINER_COMMANDS)
def test_trainer_commands_become_the_trainer_with_a_safe_import_path(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Any, ...]] = []

    def execve(*arguments: Any) -> None:
        started.append(arguments)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    assert cli.main([command, "--config", "recipe:demo"]) == 0
    [(path, arguments, child)] = started
    assert (path, arguments) == (
        sys.executable,
        (sys.executable, "-m", "pipelines.cli", command, "--config", "recipe:demo"),
    )
    assert child["PYTHONSAFEPATH"] == "1"
    assert child["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "elsewhere"]
    assert child["PATH"] == os.environ["PATH"]


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A working directory whose packages have the names of ours and of the standard library."""
    for name in ("backbones", "heads", "pipelines", "service", "yaml", "random"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a foreign package was imported')\n")
    return tmp_path


def test_trainer_never_imports_packages_of_the_working_directory(hostile_folder: Path) -> None:
    done = process("fit", "--config", "recipe:bccd", "--print_config", cwd=hostile_folder)
    assert "a foreign package was imported" not in done.stderr
    assert done.returncode == 0, done.stderr
    assert "head: " in done.stdout


def test_command_returns_the_exit_code_of_the_trainer(tmp_path: Path) -> None:
    done = process("fit", "--config", "missing.yaml", cwd=tmp_path)
    assert done.returncode == 78
    assert "missing.yaml" in done.stderr
    assert "Traceback" not in done.stderr
