"""Response bodies of the catalog. Torch-free."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from backbones.spec.surgery import Operation
from pipelines.tasks.kinds import KindName
from service.rest.schemas import Answer

RGB = tuple[float, float, float]


class BackboneFacts(Answer):
    """Measurements of a network as a backbone, without its classifier."""

    parameters: int = Field(description="number of parameters")
    channels: tuple[int, int, int] = Field(description="channels of c3, c4 and c5 (strides 8, 16 and 32)")
    macs: int = Field(description="multiply-accumulate operations for one image of 224x224 pixels")
    trains_on_cpu: bool = Field(description="true for at most 8e9 macs and no deformable convolutions")
    mean: RGB = Field(description="mean of RGB values in [0, 1] that the default weights expect")
    std: RGB = Field(description="standard deviation that the default weights expect")


class CatalogBackbone(Answer):
    """A network in the catalog; most other networks in timm and torchvision can be used by name too."""

    __qualname__ = "Backbone"  # its name in the OpenAPI document
    model_config = ConfigDict(title="Backbone")

    name: str = Field(description="value of `model.backbone.name`")
    family: str | None = Field(description="family of architectures; null if unknown")
    year: int | None = Field(description="year of the paper; null if unknown")
    paper: str | None = Field(description="arXiv id, or the DOI of an older paper")
    library: str = Field(description="library that builds it: timm, torchvision, or pyramidion itself")
    id: str = Field(description="its name in that library")
    has_default_weights: bool = Field(description="whether it starts from weights unless the document says otherwise")
    weights_license: str | None = Field(
        description="license of the default weights; null if there are no default weights or the license is unknown"
    )
    weights_licence: str | None = Field(
        deprecated="renamed to `weights_license`", description="same as `weights_license`"
    )
    accept_license_needed: bool = Field(description="true if the default weights need `accept_license: true`")
    surgery: dict[str, Any] = Field(description="changes to the network that `id` names")
    takes: list[Operation | Literal["reparameterise"]] = Field(
        description="operations of `model.backbone.surgery` that it supports; `reparameterise` is an old name"
    )
    is_equivariant: bool = Field(
        description="true if shifting an image by 32 pixels shifts the feature maps, except near the border"
    )
    facts: BackboneFacts | None = Field(description="null if the network has not been measured yet")


class BackboneList(Answer):
    """The catalog's backbones."""

    backbones: list[CatalogBackbone] = Field(description="in the order of the catalog")
    presets: dict[str, BackboneFacts] = Field(
        description="presets of the design space, for `model.backbone.design.preset`"
    )
    others: dict[str, int] = Field(description="number of other networks in each library")


class CatalogHead(Answer):
    """A head, which defines what a task predicts."""

    __qualname__ = "Head"  # its name in the OpenAPI document
    model_config = ConfigDict(title="Head")

    name: str = Field(description="value of `head` in a task of the document")
    kind: KindName = Field(description="kind of the task")
    description: str = Field(description="what it is, in one sentence")
    losses: list[str] = Field(description="names of the losses that it supports")
    paper: str | None = Field(description="arXiv id")


class HeadList(Answer):
    """The catalog's heads."""

    heads: list[CatalogHead] = Field(description="in the order of the catalog")


class Loss(Answer):
    """A loss function of heads."""

    name: str = Field(description="value of `loss` in a head of the document")
    kinds: list[KindName] = Field(description="kinds of tasks that use it")
    description: str = Field(description="what it is, in one sentence")
    paper: str | None = Field(description="arXiv id")


class LossList(Answer):
    """The catalog's losses."""

    losses: list[Loss] = Field(description="in the order of the catalog")
