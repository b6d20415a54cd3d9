"""This project's networks as backbones."""

import pytest
import torch

from backbones.catalog.row import BackboneRow
from backbones.catalog.rows import CATALOG
from backbones.create import TappedBackbone, create_backbone
from backbones.feature_extractor import IMAGENET_MEAN, IMAGENET_STD
from backbones.meta_device import built_on_meta
from backbones.own_adapter import PYRAMIDS, SINGLE_SCALE, build_own_extractor
from backbones.spec.surgery import SurgerySpec


def build(name: str) -> TappedBackbone:
    with built_on_meta():
        return TappedBackbone(build_own_extractor(BackboneRow(name, "own", name)))


def test_own_networks_and_catalog_rows_match() -> None:
    assert {row.id for row in CATALOG.values() if row.source == "own"} == {*PYRAMIDS, *SINGLE_SCALE}


@pytest.mark.parametrize(
    ("name", "normed"),
    [
        ("alexnet2012", ["c3", "c4", "c5"]),
        ("zfnet", ["c3", "c4", "c5"]),
        ("nin", ["c3", "c4", "c5"]),
        ("googlenet", ["c3", "c4", "c5"]),
        ("bn_inception", []),
        ("convnext_isotropic", ["c3"]),
    ],
)
def test_unnormalized_levels_of_own_networks_get_a_norm(name: str, normed: list[str]) -> None:
    backbone = build(name)
    assert sorted({key.split(".")[1] for key in backbone.stages if key.startswith("norms.")}) == normed
    assert (backbone.mean, backbone.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_row_passes_its_arguments_to_the_network() -> None:
    with built_on_meta():
        body = build_own_extractor(BackboneRow("nin", "own", "nin", kwargs={"width": 40}))
        backbone = TappedBackbone(body)
    assert backbone.feature_specs["c5"].channels == 40


@pytest.mark.parametrize("name", ["alexnet2012", "zfnet"])
def test_last_stage_without_weights_has_only_a_norm(name: str) -> None:
    """The stage has a layer and can be frozen, like any other stage."""
    backbone = build(name)
    last = {key for key, stage in backbone.stages.items() if stage == "c5"}
    assert last == {"norms.c5.weight", "norms.c5.bias"}
    assert {backbone.layers[key] for key in last} == {5}
    for key, parameter in backbone.named_parameters():
        parameter.requires_grad_(key in last)
    features = backbone(torch.empty(1, 3, 64, 64, device="meta"))
    assert [feature.requires_grad for feature in features.values()] == [False, False, True]


@pytest.mark.parametrize("name", [name for name, row in CATALOG.items() if "upsampling" in row.takes])
def test_rows_with_upsampling_use_the_requested_operation(name: str) -> None:
    with built_on_meta():
        backbone = create_backbone(name, surgery=SurgerySpec(upsampling="interpolated"))
    channels = backbone.feature_specs["c4"].channels
    assert backbone.get_parameter("body.pyramid.finer.1.weight").shape == (channels // 2, channels, 3, 3)
    assert backbone.feature_specs["c3"].channels == channels // 2
