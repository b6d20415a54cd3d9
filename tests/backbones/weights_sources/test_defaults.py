"""Default weights of libraries without internet access: tests fill the caches, and requests go to a closed port."""

import time
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torchvision import models

from backbones.catalog.lookup import resolve
from backbones.create import create_backbone
from backbones.weights_sources.defaults import default_weights_problem


@pytest.fixture(autouse=True)
def _empty_caches_and_no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", ["resnet18", "tv:resnet18"])
def test_unreachable_weights_are_reported_quickly_with_alternatives(name: str) -> None:
    start = time.monotonic()
    problem = default_weights_problem(resolve(name))
    assert time.monotonic() - start < 60
    assert problem is not None
    assert f"the default weights of backbone '{name}' are not on this machine" in problem
    assert f"pyramidion weights fetch {name} --to DIR" in problem
    assert "write `weights: none`" in problem
    with pytest.raises(ValueError, match="write `weights: none`"):
        create_backbone(name, "default")


@pytest.mark.parametrize("name", ["resnet14_thin", "timm:mobilenetv2_035", "zfnet"])
def test_network_without_pretrained_weights_is_reported(name: str) -> None:
    problem = default_weights_problem(resolve(name))
    assert problem is not None
    assert "has no default weights; write `weights: none`" in problem


def test_cached_torchvision_weights_load_offline(tmp_path: Path) -> None:
    """The file includes auxiliary classifiers, like the published file."""
    full = models.googlenet(aux_logits=True, init_weights=False)
    url = models.GoogLeNet_Weights.DEFAULT.url
    path = tmp_path / "torch" / "hub" / "checkpoints" / Path(url).name
    path.parent.mkdir(parents=True)
    torch.save(full.state_dict(), path)
    assert default_weights_problem(resolve("googlenet_bn")) is None
    own = create_backbone("googlenet_bn", "default").body.network.state_dict()
    for key, value in own.items():
        torch.testing.assert_close(value, full.state_dict()[key], rtol=0, atol=0)


def test_cached_timm_weights_load_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    full = timm.create_model("mnasnet_small.lamb_in1k")
    repository = tmp_path / "hub" / "models--timm--mnasnet_small.lamb_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(full.state_dict(), repository / "snapshots" / ("0" * 40) / "model.safetensors")
    assert default_weights_problem(resolve("timm:mnasnet_small.lamb_in1k")) is None
    own = create_backbone("timm:mnasnet_small.lamb_in1k", "default").body.network.state_dict()
    for key, value in own.items():
        torch.testing.assert_close(value, full.state_dict()[key], rtol=0, atol=0)
