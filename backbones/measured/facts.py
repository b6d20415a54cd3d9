"""Writes `facts.json`: what is measured on every network of the catalogue, for modules that must not import torch.

Run `python -m backbones.measured.facts` after a row was added or changed. Networks are built on the meta device:
no memory, no arithmetic, a fraction of a second each.
"""

import dataclasses
import json
from pathlib import Path

import torch

from backbones.base import LEVELS
from backbones.catalog.facts import FACTS_PATH, MEASURED_AT_PX, Facts
from backbones.catalog.rows import CATALOG
from backbones.create import TappedBackbone, create_backbone
from backbones.measured.macs import count_macs


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


def measure_name(name: str) -> Facts:
    """Return the facts of the network that `name` means."""
    with torch.device("meta"):
        backbone = create_backbone(name)
    return measure(backbone)


def write_facts(path: Path) -> None:
    """Write the facts of all rows to `path`, a line a row."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(dataclasses.asdict(measure_name(name)), separators=(',', ':'))}"
        for name in CATALOG
    ]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    write_facts(FACTS_PATH)
