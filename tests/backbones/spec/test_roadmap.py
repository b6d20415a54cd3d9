"""The roadmap from ResNet-50 to ConvNeXt-T."""

from itertools import pairwise

import pytest

from backbones.design_space.classifier import DesignClassifier
from backbones.measured.macs import count_macs
from backbones.meta_device import built_on_meta
from backbones.spec.design import DesignSpec
from backbones.spec.roadmap import END, ROADMAP, START, roadmap_designs

PAPER_GMACS = (4.09, 4.53, 4.42, 2.35, 5.27, 4.64, 4.07, 4.15, 4.15, 4.15, 4.15, 4.15, 4.46)


def test_every_step_changes_one_field() -> None:
    for (_, before), (step, after) in pairwise(roadmap_designs()):
        changed = [name for name in DesignSpec.model_fields if getattr(before, name) != getattr(after, name)]
        assert changed == list(step.change), step.name


def test_roadmap_leads_from_one_preset_to_the_other() -> None:
    designs = [design for _, design in roadmap_designs()]
    assert designs[0] == DesignSpec.model_validate({"preset": START})
    assert designs[-1].model_copy(update={"preset": END}) == DesignSpec.model_validate({"preset": END})


@pytest.mark.parametrize("step", range(len(ROADMAP)))
def test_step_costs_as_much_as_in_the_paper(step: int) -> None:
    with built_on_meta():
        network = DesignClassifier(roadmap_designs()[step][1])
    expected = PAPER_GMACS[min(step, len(PAPER_GMACS) - 1)]
    assert round(count_macs(network, (224, 224)).total / 1e9, 2) == expected
    assert ROADMAP[step].paper_gmacs == (expected if step < len(PAPER_GMACS) else None)
