"""Recorded facts compared with the networks that the catalog builds."""

import pytest

from backbones.catalog.facts import Facts, facts_of, recorded_designs, recorded_facts
from backbones.catalog.lookup import resolve
from backbones.catalog.rows import CATALOG
from backbones.measured.facts import measure_designs, measure_network
from backbones.spec.design import DesignSpec
from backbones.spec.design_presets import PRESETS
from backbones.spec.roadmap import ROADMAP

STALE = "run: make backbones"
PROBED = ("resnet18", "swin_tiny", "alexnet", "resnet14_thin")


def test_every_row_has_facts_in_catalog_order() -> None:
    assert list(recorded_facts()) == list(CATALOG), STALE


@pytest.mark.parametrize("name", PROBED)
def test_recorded_facts_equal_a_new_measurement(name: str) -> None:
    assert recorded_facts()[name] == measure_network(name), STALE


@pytest.mark.slow
@pytest.mark.parametrize("name", CATALOG)
def test_all_recorded_facts_equal_a_new_measurement(name: str) -> None:
    assert recorded_facts()[name] == measure_network(name), STALE


@pytest.mark.parametrize("preset", ["resnet18", "mobilenet_v2"])
def test_recorded_presets_equal_a_new_measurement(preset: str) -> None:
    assert recorded_designs().presets[preset] == measure_network(DesignSpec.model_validate({"preset": preset})), STALE


def test_every_preset_has_facts() -> None:
    assert list(recorded_designs().presets) == list(PRESETS), STALE


@pytest.mark.slow
def test_all_recorded_designs_equal_a_new_measurement() -> None:
    assert recorded_designs() == measure_designs(), STALE


def test_roadmap_costs_equal_the_paper() -> None:
    measured = recorded_designs().roadmap
    assert list(measured) == [step.name for step in ROADMAP]
    for step in ROADMAP:
        assert step.paper_gmacs is None or round(measured[step.name] / 1e9, 2) == step.paper_gmacs, step.name


def test_facts_of_resnet18() -> None:
    facts = facts_of(CATALOG["resnet18"])
    assert facts == Facts(
        parameters=11_689_512 - 1000 * 513,
        channels=(128, 256, 512),
        macs=1_813_561_344,
        is_deformable=False,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    assert facts.trains_on_cpu


def test_mean_and_std_are_those_of_the_weights_of_the_row() -> None:
    """Rows that were trained with different statistics have different facts."""
    statistics = {(facts.mean, facts.std) for facts in recorded_facts().values()}
    assert len(statistics) > 1


@pytest.mark.parametrize(
    ("macs", "is_deformable", "expected"), [(8 * 10**9, False, True), (8 * 10**9 + 1, False, False), (1, True, False)]
)
def test_trains_on_cpu_depends_on_macs_and_deformable_convolutions(
    macs: int, is_deformable: bool, expected: bool
) -> None:
    facts = Facts(1, (1, 1, 1), macs, is_deformable, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert facts.trains_on_cpu is expected


def test_network_outside_the_catalog_has_no_facts() -> None:
    assert facts_of(resolve("timm:resnet18.tv_in1k")) is None
