"""The GPUs of this host, as the driver lists them, filtered like CUDA filters them."""

from pathlib import Path

import pytest

from service.executors.gpus import gpu_uuids
from service.executors.local import LocalExecutor
from service.executors.registry import capacity_of_service
from service.settings import Settings

A, B = "GPU-aaaa1111-0000", "GPU-aabb2222-0000"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the driver's tool, which lists two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = '--query-gpu=uuid --format=csv,noheader' ] && printf '{A}\\n{B}\\n'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


def test_no_gpu_is_found_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_uuids() == ()


def test_no_gpu_is_found_if_the_driver_fails(driver: Path) -> None:
    driver.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert gpu_uuids() == ()


def test_other_output_of_the_driver_is_ignored(driver: Path) -> None:
    driver.write_text("#!/bin/sh\necho 'No devices were found'\n")
    assert gpu_uuids() == ()


@pytest.mark.parametrize(
    ("visible", "wanted"),
    [
        (None, (A, B)),
        ("", ()),
        ("-1", ()),
        ("1,0", (B, A)),
        ("0,7,1", (A,)),
        ("0,0", (A,)),
        (B, (B,)),
        ("GPU-aab", (B,)),
        ("GPU-aa", ()),
        ("MIG-1,MIG-2", ("MIG-1", "MIG-2")),
    ],
)
def test_gpus_are_filtered_like_cuda_does(
    driver: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, wanted: tuple[str, ...]
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_uuids() == wanted


@pytest.mark.parametrize(("limit", "wanted"), [(None, (A, B)), (1, (A,)), (0, ()), (5, (A, B))])
def test_executor_assigns_gpus_of_the_driver_up_to_the_limit(
    driver: Path, limit: int | None, wanted: tuple[str, ...]
) -> None:
    executor = LocalExecutor(cpus=4, gpus=limit)
    assert executor.capacity() == {"cpus": 4, "gpus": len(wanted), "nodes": 1}
    assert executor.assign({"cpus": 1, "gpus": 9}, ()) == wanted


def test_attempts_never_share_a_gpu(driver: Path) -> None:
    executor = LocalExecutor(cpus=4)
    assert executor.assign({"gpus": 1}, ()) == (A,)
    assert executor.assign({"gpus": 1}, {A}) == (B,)
    assert executor.assign({"gpus": 0}, {A}) == executor.assign({}, {A}) == ()
    assert executor.assign({"gpus": 2}, {"GPU-of-an-earlier-service"}) == (A, B)


def test_capacity_is_set_by_the_arguments() -> None:
    assert LocalExecutor(cpus=3, gpus=0).capacity() == {"cpus": 3, "gpus": 0, "nodes": 1}


def test_host_of_the_api_needs_no_gpu_for_the_gpus_of_its_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without a driver
    assert capacity_of_service(Settings(cpus=4, gpus=2)) == {"cpus": 4, "gpus": 2, "nodes": 1}
    assert capacity_of_service(Settings(cpus=4)) == {"cpus": 4, "gpus": 0, "nodes": 1}


def test_gpus_of_this_host_are_counted_although_the_setting_names_more(driver: Path) -> None:
    assert capacity_of_service(Settings(cpus=4, gpus=5)) == {"cpus": 4, "gpus": 2, "nodes": 1}
