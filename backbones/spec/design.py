"""The section `model.backbone.design`: a network described by data. Torch-free."""

from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from backbones.spec.design_checks import check
from backbones.spec.design_fields import DesignFields
from backbones.spec.design_plan import StagePlan, image_size_px, plan_stages
from backbones.spec.design_presets import PRESETS


class DesignSpec(DesignFields):
    """The fields of one network, with defaults from the preset, checked together."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        given = cls.with_current_names(given)
        if given.get("preset") is None:
            if given.get("depths") is None:
                raise ValueError("depths: missing; give the blocks of each stage, such as [3, 4, 6, 3], or a preset")
            return given
        name = given["preset"]
        if not isinstance(name, str) or name not in PRESETS:
            raise ValueError(f"preset: got {name!r}; choose {', '.join(sorted(PRESETS))}")
        return {**PRESETS[name], **given}

    @model_validator(mode="after")
    def _check_combination(self) -> "DesignSpec":
        check(self)
        return self

    @property
    def stages(self) -> tuple[StagePlan, ...]:
        """The stages with all of their convolutions, scaled by `compound`."""
        return plan_stages(self)

    @property
    def image_size_px(self) -> int:
        """The recommended image side: 224 * 1.15**compound (Tan & Le 2019, arXiv 1905.11946, eq. 3)."""
        return image_size_px(self)

    @property
    def label(self) -> str:
        """A readable name: the preset, then the names of the fields that differ from it."""
        if self.preset is None:
            return "design:own"
        original = DesignSpec.model_validate({"preset": self.preset})
        changed = [name for name in DesignSpec.model_fields if getattr(self, name) != getattr(original, name)]
        return "+".join([f"design:{self.preset}", *changed])
