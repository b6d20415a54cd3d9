"""What was measured of the catalog's networks and of the design space.

`python -m backbones.measured.facts` writes it, to `facts.json` and `designs.json`. Torch-free, as is all of the
catalog: the command and the service read it.
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
"""A step with two images of 256x256 pixels takes seconds on two cores below it, and up to half a minute above it."""

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Facts:
    """What was measured of one network.

    Attributes:
        parameters: of the network as a backbone: without its classifier, and without the norms that are put behind
            levels that come without one.
        channels: of c3, c4 and c5.
        macs: multiply-accumulates of one image of 224x224 pixels: convolutions and products of matrices.
        is_deformable: whether it has deformable convolutions.
        mean, std: what its own weights expect of RGB values in [0, 1].
    """

    parameters: int
    channels: tuple[int, int, int]
    macs: int
    is_deformable: bool
    mean: RGB
    std: RGB

    @property
    def trains_on_cpu(self) -> bool:
        """Whether training without a GPU is worth a try: up to 8 GMACs an image, and nothing deformable."""
        return self.macs <= CPU_LIMIT_MACS and not self.is_deformable


@dataclass(frozen=True)
class DesignFacts:
    """What was measured of the design space.

    Attributes:
        presets: the facts of each preset.
        roadmap: by the name of a step from ResNet-50 to ConvNeXt-T, multiply-accumulates as above and those of a
            classifier for 1000 classes, as the paper counts.
    """

    presets: Mapping[str, Facts]
    roadmap: Mapping[str, int]


@cache
def recorded_facts() -> Mapping[str, Facts]:
    """Return what was measured, by the name of the catalog's row."""
    return MappingProxyType(TypeAdapter(dict[str, Facts]).validate_json(FACTS_PATH.read_bytes()))


@cache
def recorded_designs() -> DesignFacts:
    """Return what was measured of the design space."""
    return TypeAdapter(DesignFacts).validate_json(DESIGNS_PATH.read_bytes())


def facts_of(row: BackboneRow) -> Facts | None:
    """Return what was measured of a network; None of one outside the catalog, or not measured since it came."""
    return recorded_facts().get(row.name)
