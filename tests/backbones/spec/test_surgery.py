"""What a document may ask of surgery, and what is refused before anything is built."""

from typing import Any

import pytest

from backbones.catalog.checks import require_surgery
from backbones.catalog.rows import CATALOG
from backbones.spec.surgery import NO_SURGERY, OPERATIONS, AttentionSpec, SurgerySpec


def surgery(**changes: Any) -> SurgerySpec:
    return SurgerySpec.model_validate(changes)


def test_the_kind_of_attention_has_the_place_and_the_width_of_its_paper() -> None:
    context, non_local = AttentionSpec(kind="gc"), AttentionSpec(kind="nl")
    assert (context.stages, context.position, context.inner_ratio) == (("c3", "c4", "c5"), "residual", 1 / 16)
    assert (non_local.stages, non_local.position, non_local.inner_ratio) == (("c4",), "before_last_block", 1 / 2)
    assert AttentionSpec(kind="nl", position="residual", ratio=0.25).inner_ratio == 0.25


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"attention": [{"kind": "nl", "stages": ["c3", "c4"]}]}, r"got \['c3'\] for nl.*279 million pairs"),
        ({"attention": [{"kind": "gc", "stages": []}]}, "at least 1 item"),
        ({"attention": [{"kind": "gc"}, {"kind": "se", "stages": ["c5"]}]}, "residual and residual meet in c5"),
        (
            {"attention": [{"kind": "gc", "position": "every_block"}, {"kind": "nl"}]},
            "every_block and before_last_block meet in c4",
        ),
        ({"deformable": ["c4", "c4"]}, "name each stage once"),
        ({"deformable": ["c2"]}, "'c3', 'c4' or 'c5'"),
        ({"stochastic_depth": 1.0}, "less than 1"),
        ({"dropout": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        surgery(**changes)


def test_attention_before_the_shortcut_and_behind_the_block_are_two_places() -> None:
    both = surgery(
        attention=[{"kind": "gc"}, {"kind": "nl"}, {"kind": "se", "stages": ["c4"], "position": "last_block"}]
    )
    assert len(both.attention) == 3


def test_a_rate_of_zero_is_asked_for_and_a_switch_that_is_off_is_not() -> None:
    assert surgery(stochastic_depth=0, freeze_batchnorm=False).asked == ("stochastic_depth",)
    assert NO_SURGERY.asked == ()
    everything = surgery(
        attention=[{"kind": "se"}],
        deformable=["c5"],
        freeze_batchnorm=True,
        stochastic_depth=0.1,
        reparameterize=True,
        upsampling="interpolated",
    )
    assert everything.asked == OPERATIONS


def test_a_documents_surgery_comes_on_top_of_the_rows() -> None:
    row = surgery(attention=[{"kind": "nl"}], deformable=["c5"], stochastic_depth=0.1)
    both = surgery(attention=[{"kind": "gc"}], deformable=["c4"], stochastic_depth=0.2).on_top_of(row)
    assert [block.kind for block in both.attention] == ["nl", "gc"]
    assert both.deformable == ("c4", "c5")
    assert both.stochastic_depth == 0.2
    assert surgery(freeze_batchnorm=True).on_top_of(row).stochastic_depth == 0.1
    with pytest.raises(ValueError, match=r"the network has it in \['c5'\] already"):
        surgery(deformable=["c5"]).on_top_of(row)


def test_what_a_row_has_already_is_refused_before_it_is_built() -> None:
    with pytest.raises(ValueError, match="backbone 'gcnet50': attention: residual and residual meet in c4"):
        require_surgery(CATALOG["gcnet50"], surgery(attention=[{"kind": "se", "stages": ["c4"]}]))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_that_a_row_does_not_take_is_refused_with_the_rows_that_do(operation: str) -> None:
    value = {"attention": [{"kind": "se"}], "deformable": ["c5"], "stochastic_depth": 0.1, "upsampling": "transposed"}
    takers = [name for name, row in CATALOG.items() if operation in row.takes]
    assert takers
    for name, row in CATALOG.items():
        if name not in takers:
            with pytest.raises(ValueError, match=f"surgery.{operation}: backbone '{name}' does not take it; ") as error:
                require_surgery(row, surgery(**{operation: value.get(operation, True)}))
            assert str(error.value).endswith("choose one of " + ", ".join(takers))


def test_the_old_name_of_a_field_is_accepted_and_both_names_at_once_are_rejected() -> None:
    assert surgery(reparameterise=True) == surgery(reparameterize=True)
    with pytest.raises(ValueError, match="got both 'reparameterize' and its old name 'reparameterise'"):
        surgery(reparameterise=True, reparameterize=True)
