"""Measures every network in the catalog and the design space, and records the results for torch-free modules.

Run `python -m backbones.measured.facts` after adding or changing a row, a preset or a step of the roadmap. Networks are
built on the meta device, without memory or arithmetic, each in a fraction of a second.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backbones.base import LEVELS
from backbones.catalog.facts import DESIGNS_PATH, FACTS_PATH, MEASURED_AT_PX, DesignFacts, Facts
from backbones.catalog.rows import CATALOG
from backbones.create import TappedBackbone, create_backbone
from backbones.measured.macs import count_macs
from backbones.meta_device import built_on_meta
from backbones.spec.design import DesignSpec
from backbones.spec.design_presets import PRESETS
from backbones.spec.roadmap import roadmap_designs

CLASSES = 1000
"""Number of classes of the classifier that the roadmap's costs include, as in its paper."""


def measure(backbone: TappedBackbone) -> Facts:
    """Return the facts of a built network, on any device."""
    macs = count_macs(backbone, (MEASURED_AT_PX, MEASURED_AT_PX))
    c3, c4, c5 = (backbone.feature_specs[level].channels for level in LEVELS)
    return Facts(
        parameters=sum(parameter.numel() for parameter in backbone.body.parameters()),
        channels=(c3, c4, c5),
        macs=macs.total,
        is_deformable=macs.deformable > 0,
        mean=backbone.mean,
        std=backbone.std,
    )


def measure_network(network: str | DesignSpec) -> Facts:
    """Return the facts of the network with this name or design."""
    with built_on_meta():
        backbone = create_backbone(network)
    return measure(backbone)


def measure_designs() -> DesignFacts:
    """Return the facts of the presets, and the cost of each step of the roadmap."""
    presets = {name: measure_network(DesignSpec.model_validate({"preset": name})) for name in PRESETS}
    roadmap = {}
    for step, design in roadmap_designs():
        facts = measure_network(design)
        roadmap[step.name] = facts.macs + CLASSES * facts.channels[-1]
    return DesignFacts(presets, roadmap)


def write_facts(path: Path) -> None:
    """Write the facts of all rows to `path`, one line per row."""
    path.write_text(_by_line({name: dataclasses.asdict(measure_network(name)) for name in CATALOG}) + "\n", "utf-8")


def write_designs(path: Path) -> None:
    """Write the facts of the design space to `path`, one line per preset or step."""
    parts = dataclasses.asdict(measure_designs()).items()
    lines = ",\n".join(f"{json.dumps(part)}: {_by_line(facts)}" for part, facts in parts)
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _by_line(facts: Mapping[str, Any]) -> str:
    lines = (f"{json.dumps(name)}: {json.dumps(value, separators=(',', ':'))}" for name, value in facts.items())
    return "{\n" + ",\n".join(lines) + "\n}"


if __name__ == "__main__":
    write_facts(FACTS_PATH)
    write_designs(DESIGNS_PATH)
