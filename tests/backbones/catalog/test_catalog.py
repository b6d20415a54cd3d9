"""Names: what they mean, and what is said of those that mean nothing."""

import json

import pytest
import timm

from backbones.catalog.lookup import resolve
from backbones.catalog.rows import CATALOG
from backbones.measured.names import NAMES_PATH, installed_names


def test_recorded_names_are_those_of_the_installed_libraries() -> None:
    recorded = json.loads(NAMES_PATH.read_text(encoding="utf-8"))
    for library, installed in installed_names().items():
        if installed["version"] == recorded[library]["version"]:
            assert recorded[library] == installed, "run: python -m backbones.measured.names"


def test_a_catalogue_row_wins_over_the_libraries_own_name() -> None:
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
        ("efficientnet_v2_m", "tv", "efficientnet_v2_m"),
        ("tv:resnet50", "tv", "resnet50"),
    ],
)
def test_other_names_mean_timms_network_else_torchvisions(name: str, source: str, library_id: str) -> None:
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
def test_an_unknown_name_is_answered_with_the_nearest_right_one(name: str, right: str) -> None:
    with pytest.raises(ValueError, match="is not in the catalogue; did you mean") as error:
        resolve(name)
    assert right in str(error.value)


def test_a_name_like_nothing_gets_no_suggestion() -> None:
    with pytest.raises(ValueError, match=r"is not in the catalogue\. 'pyramidion backbones' lists all"):
        resolve("?!")


@pytest.mark.parametrize("name", ["hf-hub:someone/something", "local-dir:/etc", "torchvision:resnet18"])
def test_only_the_two_libraries_can_be_named(name: str) -> None:
    with pytest.raises(ValueError, match="choose 'timm' or 'tv'"):
        resolve(name)


def test_a_library_without_the_name_is_not_replaced_by_the_other() -> None:
    with pytest.raises(ValueError, match="not in the catalogue"):
        resolve("tv:convnext_atto")


@pytest.mark.parametrize("row", CATALOG.values(), ids=CATALOG)
def test_a_row_tells_where_it_was_published_and_the_licence_of_its_weights(row) -> None:  # type: ignore[no-untyped-def]
    assert row.family is not None
    assert row.paper is not None
    assert row.year is not None
    paper_year, _, number = row.paper.partition(".")
    assert len(number) in (4, 5)
    assert abs(row.year - (2000 + int(paper_year[:2]))) <= 1
    if row.kwargs:
        assert row.weights_licence is None
    elif row.source == "timm":
        assert row.weights_licence == timm.get_pretrained_cfg(row.id).license
