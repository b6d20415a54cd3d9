"""`model.backbone.surgery`: what is changed in a network that the catalogue builds. Torch-free."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from backbones.part import Part, Stage

Attention = Literal["se", "gc", "nl"]
Position = Literal["residual", "every_block", "before_last_block", "last_block"]
Operation = Literal["attention", "deformable", "freeze_batchnorm", "stochastic_depth", "reparameterise", "upsampling"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

DEFAULT_RATIOS: dict[Attention, float] = {"se": 1 / 16, "gc": 1 / 16, "nl": 1 / 2}
"""Channels inside the block over those of the map, as in the papers."""


def _in_order(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    if len(set(stages)) < len(stages):
        raise ValueError(f"got {list(stages)}; name each stage once")
    return tuple(sorted(stages))


Stages = Annotated[tuple[Stage, ...], AfterValidator(_in_order)]
"""Stages, finest first."""


class AttentionSpec(Part):
    """Blocks that look at the whole map.

    | kind | block | paper |
    |---|---|---|
    | se | squeeze and excitation: each channel is scaled | Hu et al. 2018, arXiv 1709.01507 |
    | gc | global context: a vector is added to every cell | Cao et al. 2019, arXiv 1904.11492 |
    | nl | non-local: every cell looks at every other | Wang et al. 2018, arXiv 1711.07971 |
    """

    kind: Attention
    stages: Stages = Field(("c3", "c4", "c5"), min_length=1)
    position: Position = Field(
        "residual",
        description="residual: in every block, before the shortcut is added; else a block of its own behind blocks",
    )
    ratio: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="channels inside over those of the map; default 1/16, of nl 1/2"
    )

    @property
    def inner_ratio(self) -> float:
        """Channels inside the block over those of the map."""
        return DEFAULT_RATIOS[self.kind] if self.ratio is None else self.ratio


class SurgerySpec(Part):
    """What is changed in the network; `pyramidion backbones NAME` says what a network takes."""

    attention: tuple[AttentionSpec, ...] = ()
    deformable: Stages = Field((), description="stages whose 3x3 convolutions learn where to look")
    freeze_batchnorm: bool = Field(False, description="BatchNorm keeps the statistics and scales that it has")
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="how often the last block is skipped in training; earlier ones less, in proportion"
    )
    reparameterise: bool = Field(False, description="evaluate and export with each block folded into one convolution")
    upsampling: Literal["transposed", "interpolated"] | None = Field(
        None, description="how a network of a single scale comes to c3; the default is transposed"
    )

    @property
    def asked(self) -> tuple[Operation, ...]:
        """The operations that this asks for."""
        return tuple(
            operation
            for operation in OPERATIONS
            if (value := getattr(self, operation)) is not None and value is not False and value != ()
        )


NO_SURGERY = SurgerySpec()
