"""What the catalogs' answers hold. Torch-free; the client reads them with the same classes."""

from typing import Any, Literal

from pydantic import Field

from backbones.surgery.spec import Operation
from pipelines.tasks.kinds import KindName
from service.rest.schemas import Answer

RGB = tuple[float, float, float]


class BackboneFacts(Answer):
    """What was measured of a network as a backbone, without its classifier."""

    parameters: int
    channels: tuple[int, int, int] = Field(description="of c3, c4 and c5, whose strides are 8, 16 and 32")
    macs: int = Field(description="multiply-accumulates of one image of 224x224 pixels")
    trains_on_cpu: bool = Field(description="up to 8e9 macs, and no deformable convolutions")
    mean: RGB = Field(description="what its own weights expect of RGB values in [0, 1]")
    std: RGB


class Backbone(Answer):
    """A network that is vouched for; any other of timm and torchvision can be named too."""

    name: str
    family: str | None
    year: int | None
    paper: str | None = Field(description="arXiv id, or the DOI of an older paper")
    library: str = Field(description="who builds it: timm, torchvision, or pyramidion itself")
    id: str = Field(description="its name there")
    has_default_weights: bool
    weights_license: str | None = Field(description="of the default weights; null: there are none, or it is not known")
    weights_licence: str | None = Field(deprecated="renamed to `weights_license`", description="see `weights_license`")
    accept_license_needed: bool = Field(description="the default weights are refused without `accept_license`")
    surgery: dict[str, Any] = Field(description="what it changes in the network that `id` names")
    takes: list[Operation | Literal["reparameterise"]] = Field(
        description="what `model.backbone.surgery` may ask for on top; `reparameterise` is an old name"
    )
    is_equivariant: bool = Field(description="an image shifted by 32 pixels gives shifted maps, away from the border")
    facts: BackboneFacts | None = Field(description="null: not measured since the row came")


class BackboneList(Answer):
    """The catalog's backbones."""

    backbones: list[Backbone]
    presets: dict[str, BackboneFacts] = Field(description="of the design space: `model.backbone.design.preset`")
    others: dict[str, int] = Field(description="how many further names each library has")


class Head(Answer):
    """What a task can be."""

    name: str
    kind: KindName
    description: str
    losses: list[str]
    paper: str | None = Field(description="arXiv id")


class HeadList(Answer):
    """The catalog's heads."""

    heads: list[Head]


class Loss(Answer):
    """What a head learns by."""

    name: str
    kinds: list[KindName]
    description: str
    paper: str | None = Field(description="arXiv id")


class LossList(Answer):
    """The catalog's losses."""

    losses: list[Loss]
