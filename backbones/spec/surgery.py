"""The section `model.backbone.surgery`: changes to a network from the catalog. Torch-free."""

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
"""Ratio of the block's inner channels to the map's channels, as in the papers."""

_NON_LOCAL_PLACE = {"stages": ("c4",), "position": "before_last_block"}
"""Where the paper inserts its single block: in res4, before the last residual block."""

AttentionStage = Literal["c2", "c3", "c4", "c5"]
"""A block belongs to stage ck if its map has stride 2**k."""


class AttentionSpec(Section):
    """Attention blocks, through which every cell can use the whole map.

    | kind | block | paper |
    |---|---|---|
    | se | squeeze and excitation: scales each channel | Hu et al. 2018, arXiv 1709.01507 |
    | gc | global context: adds one vector to every cell | Cao et al. 2019, arXiv 1904.11492 |
    | nl | non-local: every cell attends to every other | Wang et al. 2018, arXiv 1711.07971 |
    """

    kind: Attention
    stages: Annotated[tuple[AttentionStage, ...], AfterValidator(in_order)] = Field(
        ("c3", "c4", "c5"),
        min_length=1,
        description="stages that get the blocks, from c2 (stride 4) to c5 (stride 32); by default c3, c4 and c5, or "
        "only c4 for nl",
    )
    position: Position = Field(
        "residual",
        description="residual: inside every residual block, before the shortcut is added; otherwise as separate "
        "blocks: after every block, before the last block, or after the last block; by default residual, or "
        "before_last_block for nl",
    )
    ratio: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="inner channels of the attention block / channels of the map; by default 1/16, or 1/2 for nl"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_non_local_place(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("kind") == "nl":
            return {**_NON_LOCAL_PLACE, **given}
        return given

    @model_validator(mode="after")
    def _check_cost_of_non_local(self) -> "AttentionSpec":
        if self.kind == "nl" and (fine := [stage for stage in self.stages if stage in ("c2", "c3")]):
            raise ValueError(
                f"stages: got {fine} for nl, where every cell attends to every other: at c3 an image of 800x1333 "
                "pixels has 279 million pairs of cells; choose c4 and c5, or the kind gc"
            )
        return self

    @property
    def inner_ratio(self) -> float:
        """Ratio of the block's inner channels to the map's channels."""
        return DEFAULT_RATIOS[self.kind] if self.ratio is None else self.ratio


class SurgerySpec(Section):
    """Changes to the network; `pyramidion backbones NAME` lists the ones that a network supports."""

    OLD_NAMES: ClassVar[Mapping[str, str]] = {"reparameterise": "reparameterize"}

    attention: tuple[AttentionSpec, ...] = Field((), description="attention blocks to insert")
    deformable: Annotated[tuple[Stage, ...], AfterValidator(in_order)] = Field(
        (), description="stages whose 3x3 convolutions become deformable"
    )
    freeze_batchnorm: bool = Field(False, description="keep the statistics and scales of BatchNorm fixed")
    stochastic_depth: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="probability of skipping the last block in training; it grows linearly from 0 at the first"
    )
    reparameterize: bool = Field(False, description="evaluate and export with each block folded into one convolution")
    upsampling: Literal["transposed", "interpolated"] | None = Field(
        None, description="operation that makes c3 from the map of a single-scale network; the default is transposed"
    )

    @model_validator(mode="after")
    def _check_attention_places(self) -> "SurgerySpec":
        _reject_shared_places(self.attention)
        return self

    @property
    def requested(self) -> tuple[Operation, ...]:
        """The operations that this section requests."""
        values = {operation: getattr(self, operation) for operation in OPERATIONS}
        return tuple(name for name, value in values.items() if value is not None and value is not False and value != ())

    def on_top_of(self, first: "SurgerySpec") -> "SurgerySpec":
        """Return both sections combined; a number or choice that both set is taken from this one.

        Raises:
            ValueError: both change the same place.
        """
        if twice := sorted(set(self.deformable) & set(first.deformable)):
            raise ValueError(f"deformable: {twice} of the network are already deformable; remove these stages")
        _reject_shared_places(first.attention + self.attention)
        return SurgerySpec(
            attention=first.attention + self.attention,
            deformable=first.deformable + self.deformable,
            freeze_batchnorm=first.freeze_batchnorm or self.freeze_batchnorm,
            reparameterize=first.reparameterize or self.reparameterize,
            stochastic_depth=first.stochastic_depth if self.stochastic_depth is None else self.stochastic_depth,
            upsampling=self.upsampling or first.upsampling,
        )


def _reject_shared_places(blocks: tuple[AttentionSpec, ...]) -> None:
    places = [(stage, block.position) for block in blocks for stage in block.stages]
    for (stage, position), (other_stage, other) in combinations(places, 2):
        follows_every_block = "every_block" in (position, other) and "residual" not in (position, other)
        if stage == other_stage and (position == other or follows_every_block):
            raise ValueError(f"attention: {position} and {other} are the same place in {stage}; remove one of them")


NO_SURGERY = SurgerySpec()
