"""Published state dicts load into designs: every tensor is renamed, and the maps equal those of the library.

The libraries' networks are the oracle. All of their tensors are random, including running statistics.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision import models

from backbones.create import TappedBackbone, create_backbone
from backbones.meta_device import built_on_meta
from backbones.spec.design import DesignSpec
from backbones.spec.roadmap import roadmap_designs
from backbones.weights import WeightsReport


@dataclasses.dataclass(frozen=True)
class Published:
    """A network of a library that a preset describes.

    Attributes:
        name: name with the prefix of the library.
        taps: its modules that output the maps with strides 8, 16 and 32.
        dropped: prefixes of the keys after the last map: the final norm or convolution, and the classifier.
    """

    preset: str
    name: str
    taps: tuple[str, str, str]
    dropped: tuple[str, ...]


_RESNET = ("layer2", "layer3", "layer4")
_STAGES = ("stages.1", "stages.2", "stages.3")
_DENSE = ("features.denseblock2", "features.denseblock3", "features.norm5")

PUBLISHED = (
    Published("resnet18", "timm:resnet18", _RESNET, ("fc.",)),
    Published("resnet18", "tv:resnet18", _RESNET, ("fc.",)),
    Published("resnet50", "timm:resnet50", _RESNET, ("fc.",)),
    Published("preresnet50", "timm:resnetv2_50", _STAGES, ("norm.", "head.")),
    Published("convnext_atto", "timm:convnext_atto", _STAGES, ("head.",)),
    Published("convnext_tiny", "timm:convnext_tiny", _STAGES, ("head.",)),
    Published("convnext_tiny", "tv:convnext_tiny", ("features.3", "features.5", "features.7"), ("classifier.",)),
    Published(
        "mobilenet_v2",
        "timm:mobilenetv2_100",
        ("blocks.2", "blocks.4", "blocks.6"),
        ("conv_head.", "bn2.", "classifier."),
    ),
    Published(
        "mobilenet_v2", "tv:mobilenet_v2", ("features.6", "features.13", "features.17"), ("features.18.", "classifier.")
    ),
    Published("densenet121", "timm:densenet121", _DENSE, ("classifier.",)),
    Published("densenet121", "tv:densenet121", _DENSE, ("classifier.",)),
    Published(
        "efficientnet_b0",
        "timm:efficientnet_b0",
        ("blocks.2", "blocks.4", "blocks.6"),
        ("conv_head.", "bn2.", "classifier."),
    ),
    Published(
        "efficientnet_b0",
        "tv:efficientnet_b0",
        ("features.3", "features.5", "features.7"),
        ("features.8.", "classifier."),
    ),
)
BY_NAME = {published.name: published for published in PUBLISHED}


def _build(name: str) -> nn.Module:
    """Return a network of a library in eval mode with random tensors.

    Maps keep their scale: variances are above 1/2, gains near 1, and weights scale with 1 / sqrt(fan-in).
    """
    library, _, own_name = name.partition(":")
    with built_on_meta():
        network: nn.Module = timm.create_model(own_name) if library == "timm" else models.get_model(own_name)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for key, tensor in network.state_dict().items():
        if not tensor.is_floating_point():
            tensor.zero_()
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if key.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif tensor[0].numel() > 1:
            tensor.copy_(noise / tensor[0].numel() ** 0.5)
        elif key.endswith(("bias", "running_mean")):
            tensor.copy_(0.1 * noise)
        else:
            tensor.copy_(1 + 0.2 * noise)
    return network.eval()


def _maps(network: nn.Module, taps: tuple[str, ...], images: Tensor) -> list[Tensor]:
    """Return copies of the outputs of the modules `taps`; later layers work in place."""
    maps: dict[str, Tensor] = {}
    for tap in taps:
        network.get_submodule(tap).register_forward_hook(
            lambda module, inputs, output, tap=tap: maps.update({tap: output.clone()})
        )
    with torch.no_grad():
        network(images)
    return [maps[tap] for tap in taps]


def _create(fields: Mapping[str, Any], path: Path) -> TappedBackbone:
    return create_backbone(DesignSpec.model_validate(fields), str(path)).eval()


def _report(backbone: TappedBackbone) -> WeightsReport:
    assert backbone.weights_report is not None
    return backbone.weights_report


def _assert_same_maps(backbone: TappedBackbone, network: nn.Module, published: Published) -> None:
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        own = backbone.body(images)
    for level, (ours, theirs) in enumerate(zip(own, _maps(network, published.taps, images), strict=True)):
        # The last map of the design and of timm's DenseNet is rectified; torchvision rectifies it in the classifier.
        wanted = theirs.relu() if published.taps[level] == "features.norm5" else theirs
        assert ours.shape == wanted.shape
        assert wanted.std() > 0.05
        assert (ours - wanted).abs().max() <= 1e-4 * wanted.abs().max()


@pytest.mark.parametrize("published", PUBLISHED, ids=BY_NAME)
def test_published_weights_produce_the_maps_of_the_library(published: Published, tmp_path: Path) -> None:
    """One of the two ConvNeXt-T is the last step of the roadmap from ResNet-50, the other is the preset."""
    network = _build(published.name)
    torch.save(network.state_dict(), tmp_path / "published.pth")
    design = DesignSpec.model_validate({"preset": published.preset})
    if published.name == "timm:convnext_tiny":
        _, design = roadmap_designs()[-1]
    backbone = create_backbone(design, str(tmp_path / "published.pth")).eval()
    report = _report(backbone)
    assert set(report.loaded) == set(backbone.body.network.state_dict())
    assert all(key.startswith(published.dropped) for key in report.unexpected), report.unexpected
    _assert_same_maps(backbone, network, published)


def test_old_densenet_files_with_dots_in_names_load(tmp_path: Path) -> None:
    state = _build("tv:densenet121").state_dict()
    old = {
        key.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2")
        if "denselayer" in key
        else key: value
        for key, value in state.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pth")
    report = _report(_create({"preset": "densenet121"}, tmp_path / "old.pth"))
    assert (report.missing, report.mis_shaped) == ((), ())
    assert report.unexpected == ("classifier.weight", "classifier.bias")


def test_file_with_design_names_is_not_renamed(tmp_path: Path) -> None:
    design = DesignSpec.model_validate({"preset": "convnext_atto"})
    first = create_backbone(design)
    save_file(first.body.network.state_dict(), tmp_path / "ours.safetensors")
    second = create_backbone(design, str(tmp_path / "ours.safetensors"))
    assert len(_report(second).loaded) == len(first.body.network.state_dict())
    for key, value in first.body.network.state_dict().items():
        torch.testing.assert_close(second.body.network.state_dict()[key], value, rtol=0, atol=0)


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "resnet18.pth"
    torch.save(_build("tv:resnet18").state_dict(), path)
    return path


def test_fitting_tensors_load_after_a_changed_field_and_others_are_reported(resnet18_file: Path) -> None:
    report = _report(_create({"preset": "resnet18", "kernel": 5}, resnet18_file))
    assert len(report.mis_shaped) == 16
    assert all(key.endswith((".branch.conv1.weight", ".branch.conv2.weight")) for key in report.mis_shaped)
    assert report.missing == ()
    deeper = _report(_create({"preset": "resnet18", "depths": [2, 2, 3, 2]}, resnet18_file))
    assert deeper.mis_shaped == ()
    assert {key.rpartition(".branch.")[0] for key in deeper.missing} == {"stages.2.2"}
    deformable = _report(_create({"preset": "resnet18", "deformable": [4]}, resnet18_file))
    assert deformable.mis_shaped == ()
    assert {key.partition(".branch.")[0] for key in deformable.missing} == {"stages.3.0", "stages.3.1"}
    assert all("offset" in key for key in deformable.missing), deformable.missing
    with_attention = _report(_create({"preset": "resnet18", "attention": {"kind": "gc"}}, resnet18_file))
    assert with_attention.missing
    assert all(".branch.attention." in key for key in with_attention.missing)


def test_file_of_another_family_is_rejected(resnet18_file: Path) -> None:
    with pytest.raises(ValueError, match="nothing in this file fits the network"):
        _create({"preset": "convnext_atto"}, resnet18_file)


@pytest.mark.parametrize(
    ("preset", "name"), [("resnet34", "resnet34"), ("resnext50", "resnext50_32x4d"), ("se_resnet50", "seresnet50")]
)
def test_every_tensor_of_larger_networks_is_renamed(preset: str, name: str) -> None:
    with built_on_meta():
        state = timm.create_model(name).state_dict()
        body = create_backbone(DesignSpec.model_validate({"preset": preset})).body
    renamed = body.rename(state)
    own = body.network.state_dict()
    assert renamed.keys() - own.keys() == {"fc.weight", "fc.bias"}
    assert {key: value.shape for key, value in renamed.items() if key in own} == {
        key: value.shape for key, value in own.items()
    }
