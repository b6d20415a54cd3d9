"""`model.backbone.surgery`: what is changed in a network that the catalog builds. Torch-free."""

from collections.abc import Mapping
from itertools import combinations
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import AfterValidator, Field, model_validator

from backbones.spec.section import Section, Stage, in_order

Attention = Literal["se", "gc", "nl"]
Position = Literal["residual", "every_block", "before_last_block", "last_block"]
Operation = Literal["attention", "deformable", "freeze_batchnorm", "stochastic_depth", "reparameterize", "upsampling"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

DEFAULT_RATIOS: dict[Attention, float] = {"se": 1 / 16, "gc": 1 / 16, "nl": 1 / 2}
"""Channels inside the block over those of the map, as in the papers."""

_NON_LOCAL_PLACE = {"stages": ("c4",), "position": "before_last_block"}
"""Where the paper puts one block: res4, behind its last block but one."""

AttentionStage = Literal["c2", "c3", "c4", "c5"]
"""A block belongs to the level ck whose stride, 2**k, its map has."""


class AttentionSpec(Section):
    """Blocks that look at the whole map.

    | kind | block | paper |
    |---|---|---|
    | se | squeeze and excitation: each channel is scaled | Hu et al. 2018, arXiv 1709.01507 |
    | gc | global context: a vector is added to every cell | Cao et al. 2019, arXiv 1904.11492 |
    | nl | non-local: every cell looks at every other | Wang et al. 2018, arXiv 1711.07971 |
    """

    kind: Attention
    stages: Annotated[tuple[AttentionStage, ...], AfterValidator(in_order)] = Field(
        ("c3", "c4", "c5"),
        min_length=1,
        description="blocks at maps of stride 4 (c2) to 32 (c5); default c3, c4 and c5, of nl c4",
    )
    position: Position = Field(
        "residual",
        description="residual: in every block, before the shortcut is added; else a block of its own behind every "
        "block, behind the last but one, or behind the last; default residual, of nl before_last_block",
    )
    ratio: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="channels inside over those of the map; default 1/16, of nl 1/2"
    )

    @model_validator(mode="before")
    @classmethod
    def _non_local_has_its_own_place(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("kind") == "nl":
            return {**_NON_LOCAL_PLACE, **given}
        return given

    @model_validator(mode="after")
    def _non_local_is_affordable(self) -> "AttentionSpec":
        if self.kind == "nl" and (fine := [stage for stage in self.stages if stage in ("c2", "c3")]):
            raise ValueError(
                f"stages: got {fine} for nl, where every cell looks at every other: at c3 of 800x1333 pixels 279 "
                "million pairs an image; choose c4 and c5, or the kind gc"
            )
        return self

    @property
    def inner_ratio(self) -> float:
        """Channels inside the block over those of the map."""
        return DEFAULT_RATIOS[self.kind] if self.ratio is None else self.ratio


class SurgerySpec(Section):
    """What is changed in the network; `pyramidion backbones NAME` says what a network takes."""

    OLD_NAMES: ClassVar[Mapping[str, str]] = {"reparameterise": "reparameterize"}

    attention: tuple[AttentionSpec, ...] = Field((), description="blocks that look at the whole map")
    deformable: Annotated[tuple[Stage, ...], AfterValidator(in_order)] = Field(
        (), description="stages whose 3x3 convolutions learn where to look"
    )
    freeze_batchnorm: bool = Field(False, description="BatchNorm keeps the statistics and scales that it has")
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="how often the last block is skipped in training; earlier ones less, in proportion"
    )
    reparameterize: bool = Field(False, description="evaluate and export with each block folded into one convolution")
    upsampling: Literal["transposed", "interpolated"] | None = Field(
        None, description="how a network of a single scale comes to c3; the default is transposed"
    )

    @model_validator(mode="after")
    def _a_place_has_one_attention(self) -> "SurgerySpec":
        _refuse_twice(self.attention)
        return self

    @property
    def asked(self) -> tuple[Operation, ...]:
        """The operations that this asks for."""
        values = {operation: getattr(self, operation) for operation in OPERATIONS}
        return tuple(name for name, value in values.items() if value is not None and value is not False and value != ())

    def on_top_of(self, first: "SurgerySpec") -> "SurgerySpec":
        """Return what both change, this one's numbers and choices where both have one.

        Raises:
            ValueError: both put something in the same place.
        """
        if twice := sorted(set(self.deformable) & set(first.deformable)):
            raise ValueError(f"deformable: the network has it in {twice} already; leave these out")
        _refuse_twice(first.attention + self.attention)
        return SurgerySpec(
            attention=first.attention + self.attention,
            deformable=first.deformable + self.deformable,
            freeze_batchnorm=first.freeze_batchnorm or self.freeze_batchnorm,
            reparameterize=first.reparameterize or self.reparameterize,
            stochastic_depth=first.stochastic_depth if self.stochastic_depth is None else self.stochastic_depth,
            upsampling=self.upsampling or first.upsampling,
        )


def _refuse_twice(blocks: tuple[AttentionSpec, ...]) -> None:
    places = [(stage, block.position) for block in blocks for stage in block.stages]
    for (stage, position), (other_stage, other) in combinations(places, 2):
        is_behind_all = "every_block" in (position, other) and "residual" not in (position, other)
        if stage == other_stage and (position == other or is_behind_all):
            raise ValueError(f"attention: {position} and {other} meet in {stage}; leave one out")


NO_SURGERY = SurgerySpec()
