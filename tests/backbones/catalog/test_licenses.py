"""Availability and licenses of default weights."""

import pytest
import timm
from torchvision.models import get_model_weights

from backbones.catalog.licenses import PERMISSIVE, lack_of_weights, license_of, license_problem
from backbones.catalog.lookup import known_networks, resolve
from backbones.catalog.row import BackboneRow
from backbones.catalog.rows import CATALOG
from backbones.spec.design import DesignSpec


@pytest.mark.parametrize("row", CATALOG.values(), ids=CATALOG)
def test_row_uses_permissive_weights_unless_none_exist(row: BackboneRow) -> None:
    assert license_of(row) == row.weights_license
    assert (license_problem(row) is not None) == (row.name == "mobileone_s0")
    assert (lack_of_weights(row) is None) == row.has_default_weights


@pytest.mark.parametrize(
    ("name", "license"),
    [
        ("timm:resnet18", "apache-2.0"),
        ("timm:resnet18.tv_in1k", "bsd-3-clause"),
        ("timm:resnet18.fb_ssl_yfcc100m_ft_in1k", "cc-by-nc-4.0"),
        ("resnext101_32x4d", "cc-by-nc-4.0"),
        ("swinv2_tiny_window8_256", "mit"),
        ("tv:resnet50", "bsd-3-clause"),
        ("tv:regnet_y_128gf", "cc-by-nc-4.0"),
        ("timm:resnet50.bamboo", None),
        ("res2net50d", None),
        ("seresnet18", None),
    ],
)
def test_license_of_library_weights_depends_on_the_tag(name: str, license: str | None) -> None:
    assert license_of(resolve(name)) == license


@pytest.mark.parametrize(
    ("name", "reason", "twin"),
    [
        ("timm:resnet18.fb_ssl_yfcc100m_ft_in1k", "cc-by-nc-4.0, which forbids commercial use", "resnet18.a1_in1k"),
        ("resnext101_32x4d", "cc-by-nc-4.0, which forbids commercial use", "resnext101_32x4d.gluon_in1k"),
        ("convnext_tiny.eupe_lvd1689m", "fair-noncommercial-research-license, which forbids", "convnext_tiny.in12k"),
        (
            "convnext_tiny.dinov3_lvd1689m",
            "dinov3-license, which is not a standard permissive license",
            "convnext_tiny.in12k_ft_in1k",
        ),
        ("mobileone_s0", "mobileone-license, which is not a standard permissive license", None),
        ("tv:regnet_y_128gf", "cc-by-nc-4.0, which forbids commercial use", None),
        ("timm:resnet50.bamboo", "have a license that is not recorded", "resnet50.a1_in1k"),
        ("res2net50d", "have a license that is not recorded", None),
    ],
)
def test_license_problem_states_license_and_remedies(name: str, reason: str, twin: str | None) -> None:
    problem = license_problem(resolve(name))
    assert problem is not None
    assert reason in problem
    assert "`accept_license: true`" in problem
    assert problem.endswith("or `weights: none`")
    assert ("`name: timm:" in problem) == (twin is not None)
    assert twin is None or twin in problem
    if twin is not None:
        written = problem.partition("`name: ")[2].partition("`")[0]
        assert license_problem(resolve(written)) is None


@pytest.mark.parametrize(
    "network",
    ["resnet14_thin", "seresnet18", "timm:efficientnet_b7", DesignSpec.model_validate({"preset": "resnet18"})],
)
def test_network_without_default_weights_is_reported(network: str | DesignSpec) -> None:
    row = resolve(network)
    lack = lack_of_weights(row)
    assert lack is not None
    assert "has no default weights; write `weights: none`" in lack
    assert license_problem(row) is None


def test_unknown_tag_is_reported_with_available_tags() -> None:
    with pytest.raises(ValueError, match="unknown tag 'pycl_in1k'; choose from tv2_in1k, pycls_in1k"):
        resolve("timm:regnety_004.pycl_in1k")
    with pytest.raises(ValueError, match="unknown tag 'a'; seresnet18 has no tags: remove it"):
        resolve("seresnet18.a")


def test_first_recorded_tag_is_the_default_of_the_library() -> None:
    for name, weights in known_networks()["timm"].items():
        settings = timm.get_pretrained_cfg(name)
        default = settings.tag if settings is not None and settings.has_weights else None
        assert next((tags[0] for tags in weights.values()), None) == default, name


def test_torchvision_weights_with_their_own_license_are_recorded_as_not_permissive() -> None:
    for name, weights in known_networks()["tv"].items():
        has_terms = "license" in get_model_weights(name).DEFAULT.meta
        assert has_terms == (not PERMISSIVE & set(weights)), name
