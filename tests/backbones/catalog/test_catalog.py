"""Resolution of backbone names, and errors for unknown ones."""

import json
import re

import pytest
import timm
from torchvision.models import get_model_weights

from backbones.catalog.lookup import NAMES_PATH, resolve
from backbones.catalog.row import BackboneRow
from backbones.catalog.rows import CATALOG
from backbones.catalog.rows_classic import PLAIN, RESIDUAL
from backbones.catalog.rows_efficient import MOBILE, SCALED, SEARCHED
from backbones.catalog.rows_modern import CONVOLUTIONAL, TRANSFORMERS
from backbones.measured.names import installed_networks
from backbones.weights_sources.rows import BACKBONES

DOCUMENTED = """
alexnet zfnet vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn nin googlenet googlenet_bn bn_inception
inception_v3 resnet18 resnet34 resnet50 resnet101 resnet152 preresnet50 wide_resnet50 densenet121 densenet169
densenet201 resnext50 resnext101 mobilenet_v1 mobilenet_v2 mobilenet_v3 se_resnet50 senet154 efficientnet_b0
efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 efficientnet_b5 efficientnet_b6 efficientnet_b7
efficientnet_v2_s efficientnet_v2_m efficientnet_v2_l shufflenet_v2 regnet_x regnet_y convmixer nlnet50 gcnet50
convnext_atto convnext_femto convnext_pico convnext_nano convnext_tiny convnext_small convnext_base convnext_large
convnext_isotropic repvgg_a0 repvgg_a1 repvgg_a2 repvgg_b0 repvgg_b1 repvgg_b2 repvgg_b3 dcn_resnet50 nasnet_large
mnasnet vit_tiny vit_small vit_base deit_tiny deit_small deit_base swin_tiny swin_small swin_base
"""
"""Names that documents rely on; renaming a row breaks them."""


def test_every_documented_backbone_has_a_row() -> None:
    assert [name for name in DOCUMENTED.split() if name not in CATALOG] == []


def test_recorded_networks_are_those_of_the_installed_libraries() -> None:
    recorded = json.loads(NAMES_PATH.read_text(encoding="utf-8"))
    for library, installed in installed_networks().items():
        if installed["version"] == recorded[library]["version"]:
            assert recorded[library] == installed, "run: python -m backbones.measured.names"


def test_catalog_row_takes_precedence_over_library_name() -> None:
    assert resolve("resnet50") is CATALOG["resnet50"]
    assert resolve("resnet50").id == "resnet50.a1_in1k"


@pytest.mark.parametrize(
    ("name", "source", "library_id"),
    [
        ("resnet26", "timm", "resnet26"),
        ("timm:resnet50", "timm", "resnet50"),
        ("timm:resnet50.tv_in1k", "timm", "resnet50.tv_in1k"),
        ("resnet50.tv_in1k", "timm", "resnet50.tv_in1k"),
        ("resnext101_64x4d", "timm", "resnext101_64x4d"),
        ("shufflenet_v2_x1_5", "tv", "shufflenet_v2_x1_5"),
        ("tv:resnet50", "tv", "resnet50"),
    ],
)
def test_other_names_resolve_to_timm_before_torchvision(name: str, source: str, library_id: str) -> None:
    row = resolve(name)
    assert (row.name, row.source, row.id) == (name, source, library_id)


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("resnet5O", "'resnet50'"),
        ("ConvNext_Tiny", "'convnext_tiny'"),
        ("tv:resnet5", "'tv:resnet50'"),
        ("timm:regnety_04", "'timm:regnety_004'"),
    ],
)
def test_unknown_name_is_reported_with_similar_names(name: str, right: str) -> None:
    with pytest.raises(ValueError, match="is not in the catalog; did you mean") as error:
        resolve(name)
    assert right in str(error.value)


def test_name_without_similar_names_gets_no_suggestion() -> None:
    with pytest.raises(ValueError, match=r"is not in the catalog\. Run 'pyramidion backbones' for the list"):
        resolve("?!")


@pytest.mark.parametrize("name", ["hf-hub:someone/something", "local-dir:/etc", "torchvision:resnet18"])
def test_unknown_library_prefix_is_rejected(name: str) -> None:
    with pytest.raises(ValueError, match="choose 'timm' or 'tv'"):
        resolve(name)


def test_prefix_does_not_fall_back_to_the_other_library() -> None:
    with pytest.raises(ValueError, match="not in the catalog"):
        resolve("tv:convnext_atto")


@pytest.mark.parametrize("row", CATALOG.values(), ids=CATALOG)
def test_row_states_its_paper(row: BackboneRow) -> None:
    assert row.family is not None
    assert row.paper is not None
    assert row.year is not None
    arxiv = re.fullmatch(r"(\d\d)(\d\d)\.(\d{4,5})", row.paper)
    if arxiv is None:
        assert re.fullmatch(r"10\.\d{4,9}/[\w.()/-]+", row.paper), "neither an arXiv id nor a DOI"
        assert row.year < 2014, "write its arXiv id"
        return
    assert len(arxiv[3]) == (4 if int(arxiv[1]) < 15 else 5)
    assert 1 <= int(arxiv[2]) <= 12
    assert abs(row.year - (2000 + int(arxiv[1]))) <= 1


@pytest.mark.parametrize("row", CATALOG.values(), ids=CATALOG)
def test_row_states_the_license_of_its_weights(row: BackboneRow) -> None:
    if not row.has_default_weights:
        assert row.weights_license is None
    elif row.name in BACKBONES:
        assert {source.license for source in BACKBONES[row.name]} == {row.weights_license}
    elif row.source == "timm":
        assert "." in row.id, "the tag of the default weights is named: another version of timm may choose another"
        settings = timm.get_pretrained_cfg(row.id)
        assert settings is not None
        assert row.weights_license == settings.license
    else:
        assert row.weights_license == "bsd-3-clause"
        assert "license" not in get_model_weights(row.id).DEFAULT.meta, (
            "torchvision names a license that is not its own"
        )


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("resnetv2_50", "timm"),
        ("wide_resnet50_2", "timm"),
        ("resnext50_32x4d", "timm"),
        ("seresnet50", "timm"),
        ("mobilenet_v3_large", "tv"),
        ("regnet_y_400mf", "tv"),
    ],
)
def test_former_row_names_resolve_to_library_networks(name: str, source: str) -> None:
    assert name not in CATALOG
    assert resolve(name).source == source


def test_row_names_are_unique_across_tables() -> None:
    tables = (PLAIN, RESIDUAL, MOBILE, SEARCHED, SCALED, CONVOLUTIONAL, TRANSFORMERS)
    assert len(CATALOG) == sum(map(len, tables))
