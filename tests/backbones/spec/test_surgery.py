"""Surgery in documents: valid requests, and rejections before anything is built."""

from typing import Any

import pytest

from backbones.catalog.checks import require_surgery
from backbones.catalog.rows import CATALOG
from backbones.spec.surgery import NO_SURGERY, OPERATIONS, AttentionSpec, SurgerySpec


def surgery(**changes: Any) -> SurgerySpec:
    return SurgerySpec.model_validate(changes)


def test_attention_defaults_follow_the_paper_of_its_kind() -> None:
    context, non_local = AttentionSpec(kind="gc"), AttentionSpec(kind="nl")
    assert (context.stages, context.position, context.inner_ratio) == (("c3", "c4", "c5"), "residual", 1 / 16)
    assert (non_local.stages, non_local.position, non_local.inner_ratio) == (("c4",), "before_last_block", 1 / 2)
    assert AttentionSpec(kind="nl", position="residual", ratio=0.25).inner_ratio == 0.25


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention": [{"kind": "nl", "stages": ["c3", "c4"]}]}, r"got \['c3'\] for nl.*279 million pairs"),
        ({"attention": [{"kind": "gc", "stages": []}]}, "at least 1 item"),
        (
            {"attention": [{"kind": "gc"}, {"kind": "se", "stages": ["c5"]}]},
            "residual and residual are the same place in c5",
        ),
        (
            {"attention": [{"kind": "gc", "position": "every_block"}, {"kind": "nl"}]},
            "every_block and before_last_block are the same place in c4",
        ),
        ({"deformable": ["c4", "c4"]}, "list each stage once"),
        ({"deformable": ["c2"]}, "'c3', 'c4' or 'c5'"),
        ({"stochastic_depth": 1.0}, "less than 1"),
        ({"dropout": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_invalid_surgery_is_rejected_with_a_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        surgery(**changes)


def test_attention_before_the_shortcut_and_after_the_block_are_separate_places() -> None:
    both = surgery(
        attention=[{"kind": "gc"}, {"kind": "nl"}, {"kind": "se", "stages": ["c4"], "position": "last_block"}]
    )
    assert len(both.attention) == 3


def test_rate_of_zero_counts_as_requested_and_a_false_switch_does_not() -> None:
    assert surgery(stochastic_depth=0, freeze_batchnorm=False).requested == ("stochastic_depth",)
    assert NO_SURGERY.requested == ()
    everything = surgery(
        attention=[{"kind": "se"}],
        deformable=["c5"],
        freeze_batchnorm=True,
        stochastic_depth=0.1,
        reparameterize=True,
        upsampling="interpolated",
    )
    assert everything.requested == OPERATIONS


def test_surgery_of_a_document_is_combined_with_that_of_the_row() -> None:
    row = surgery(attention=[{"kind": "nl"}], deformable=["c5"], stochastic_depth=0.1)
    both = surgery(attention=[{"kind": "gc"}], deformable=["c4"], stochastic_depth=0.2).on_top_of(row)
    assert [block.kind for block in both.attention] == ["nl", "gc"]
    assert both.deformable == ("c4", "c5")
    assert both.stochastic_depth == 0.2
    assert surgery(freeze_batchnorm=True).on_top_of(row).stochastic_depth == 0.1
    with pytest.raises(ValueError, match=r"deformable: \['c5'\] of the network are already deformable"):
        surgery(deformable=["c5"]).on_top_of(row)


def test_surgery_that_the_row_already_has_is_rejected_before_building() -> None:
    with pytest.raises(
        ValueError, match="backbone 'gcnet50': attention: residual and residual are the same place in c4"
    ):
        require_surgery(CATALOG["gcnet50"], surgery(attention=[{"kind": "se", "stages": ["c4"]}]))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_unsupported_operation_is_rejected_with_the_supporting_rows(operation: str) -> None:
    value = {"attention": [{"kind": "se"}], "deformable": ["c5"], "stochastic_depth": 0.1, "upsampling": "transposed"}
    takers = [name for name, row in CATALOG.items() if operation in row.takes]
    assert takers
    for name, row in CATALOG.items():
        if name not in takers:
            with pytest.raises(ValueError, match=f"surgery.{operation}: not supported by backbone '{name}'; ") as error:
                require_surgery(row, surgery(**{operation: value.get(operation, True)}))
            assert str(error.value).endswith("choose one of " + ", ".join(takers))


def test_old_field_name_is_accepted_and_both_names_together_are_rejected() -> None:
    old_name = "reparameterise"
    assert surgery(**{old_name: True}) == surgery(reparameterize=True)
    with pytest.raises(ValueError, match=f"got both 'reparameterize' and its old name '{old_name}'"):
        surgery(**{old_name: True}, reparameterize=True)
