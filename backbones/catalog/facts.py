"""Measured facts about the catalog's networks and the design space.

`python -m backbones.measured.facts` writes them to `facts.json` and `designs.json`. Torch-free, like the whole catalog,
because the command line and the service read them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from pydantic import TypeAdapter

from backbones.catalog.row import BackboneRow

FACTS_PATH = Path(__file__).with_name("facts.json")
DESIGNS_PATH = Path(__file__).with_name("designs.json")
MEASURED_AT_PX = 224
CPU_LIMIT_MACS = 8_000_000_000
"""On two cores, a training step with two images of 256x256 pixels takes seconds below this limit, and up to half a
minute above it."""

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Facts:
    """Measured facts about one network.

    Attributes:
        parameters: number of parameters as a backbone: without the classifier and without added level norms.
        channels: channels of c3, c4 and c5.
        macs: multiply-accumulates for one image of 224x224 pixels, in convolutions and matrix products.
        is_deformable: whether it has deformable convolutions.
        mean, std: mean and standard deviation of RGB values in [0, 1] that its weights expect.
    """

    parameters: int
    channels: tuple[int, int, int]
    macs: int
    is_deformable: bool
    mean: RGB
    std: RGB

    @property
    def trains_on_cpu(self) -> bool:
        """Whether training without a GPU is practical: at most 8 GMACs per image, no deformable convolutions."""
        return self.macs <= CPU_LIMIT_MACS and not self.is_deformable


@dataclass(frozen=True)
class DesignFacts:
    """Measured facts about the design space.

    Attributes:
        presets: the facts of each preset.
        roadmap: multiply-accumulates of each step from ResNet-50 to ConvNeXt-T, by its name; like the paper's, they
            include a classifier for 1000 classes.
    """

    presets: Mapping[str, Facts]
    roadmap: Mapping[str, int]


@cache
def recorded_facts() -> Mapping[str, Facts]:
    """Return the measured facts by the name of the catalog row."""
    return MappingProxyType(TypeAdapter(dict[str, Facts]).validate_json(FACTS_PATH.read_bytes()))


@cache
def recorded_designs() -> DesignFacts:
    """Return the measured facts about the design space."""
    return TypeAdapter(DesignFacts).validate_json(DESIGNS_PATH.read_bytes())


def facts_of(row: BackboneRow) -> Facts | None:
    """Return the measured facts of a network; None if it is not in the catalog or has not been measured yet."""
    return recorded_facts().get(row.name)
