"""A transfer strategy sets rates and unfreezing; values in the document take precedence."""

from collections.abc import Mapping
from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.spec.load import apply_override, resolved, validate_document
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import frozen_parts

Document = dict[str, Any]
STAGES = {"c3", "c4", "c5"}


def model_of(document: Document, max_epochs: int = 20, **values: Any) -> ModelSpec:
    document = apply_override(document, "trainer.max_epochs", max_epochs)
    for name, value in values.items():
        document = apply_override(document, f"model.{name}", value)
    return validate_document(document).model


@pytest.mark.parametrize(
    ("transfer", "decay", "unfreeze"),
    [
        ("full", 1.0, {0: "all"}),
        ("freeze", 1.0, {0: "none"}),
        ("discriminative", 0.6, {0: "all"}),
        ("gradual", 0.6, {0: "none", 2: ("c5",), 4: ("c5", "c4"), 6: "all"}),
        ("lp-ft", 1.0, {0: "none", 5: "all"}),
    ],
)
def test_strategy_sets_rates_and_trained_stages(
    transfer: str, decay: float, unfreeze: Mapping[int, Any], small: Document
) -> None:
    model = model_of(small, transfer=transfer)
    assert (model.layer_decay, model.unfreeze) == (decay, unfreeze)


def test_values_in_the_document_take_precedence(small: Document) -> None:
    model = model_of(small, transfer="gradual", layer_decay=0.9, unfreeze={0: ["c3"], 3: "all"})
    assert (model.layer_decay, model.unfreeze) == (0.9, {0: ("c3",), 3: "all"})


def test_default_decay_by_layer_is_weaker_than_by_stage(small: Document) -> None:
    assert model_of(small, transfer="discriminative", layer_decay_by="layer").layer_decay == 0.85


@pytest.mark.parametrize(
    ("order", "first_two"),
    [("top-down", ("c5", "c4")), ("bottom-up", ("c3", "c4")), (["c4", "c3", "c5"], ("c4", "c3"))],
)
def test_stages_unfreeze_in_the_given_order(order: Any, first_two: tuple[str, ...], small: Document) -> None:
    unfreeze = model_of(small, transfer="gradual", unfreeze_order=order).unfreeze
    assert unfreeze is not None
    assert list(unfreeze.values()) == ["none", first_two[:1], first_two, "all"]


def test_gradual_needs_at_least_one_epoch_for_each_stage(small: Document) -> None:
    unfreeze = model_of(small, max_epochs=4, transfer="gradual").unfreeze
    assert unfreeze is not None
    assert list(unfreeze) == [0, 1, 2, 3]


def test_complete_document_has_the_defaults_of_the_strategy_and_keeps_them(small: Document) -> None:
    document = apply_override(apply_override(small, "model.transfer", "gradual"), "trainer.max_epochs", 8)
    job = validate_document(document)
    assert resolved(job)["model"]["unfreeze"] == {"0": "none", "1": ["c5"], "2": ["c5", "c4"], "3": "all"}
    assert validate_document(resolved(job)) == job


UNFREEZE: Mapping[int, Any] = {0: "none", 4: ["c5"], 8: ["c5", "c4"], 12: "all"}


@pytest.mark.parametrize(
    ("epoch", "frozen"),
    [
        (0, {"c3", "c4", "c5"}), (3, {"c3", "c4", "c5"}), (4, {"c3", "c4"}), (8, {"c3"}), (11, {"c3"}), (12, set()),
        (99, set()),
    ],
)  # fmt: skip
def test_frozen_parts_depend_on_the_epoch_only(epoch: int, frozen: set[str], small: Document) -> None:
    assert frozen_parts(model_of(small, unfreeze=UNFREEZE), epoch) == frozen
    assert frozen_parts(model_of(small, unfreeze=dict(reversed(UNFREEZE.items()))), epoch) == frozen


def test_part_with_rate_zero_is_always_frozen(small: Document) -> None:
    scale = {"stages": {"neck": 0, "c3": 0, "c5": 0.5}, "tasks": {"scene": 0}}
    assert frozen_parts(model_of(small, lr_scale=scale), 7) == {"neck", "c3", "heads.scene"}


def test_network_without_trainable_parts_is_rejected(small: Document) -> None:
    scale = {"stages": {"neck": 0}, "tasks": {"scene": 0, "shapes": 0, "identity": 0}}
    with pytest.raises(ConfigError, match=r"model\.lr_scale: nothing trains from epoch 0 on"):
        model_of(small, lr_scale=scale, transfer="gradual")
    assert model_of(small, lr_scale=scale).unfreeze == {0: "all"}
    scale["tasks"]["scene"] = 0.1
    assert len(frozen_parts(model_of(small, lr_scale=scale, transfer="freeze"), 0)) == 6


@pytest.mark.parametrize("order", [["c3", "c5"], [], ["c3", "c3", "c5"], ["c3", "c4", "c5", "c3"]])
def test_order_without_all_stages_is_rejected(order: list[str], small: Document) -> None:
    with pytest.raises(ConfigError) as caught:
        model_of(small, transfer="gradual", unfreeze_order=order)
    assert str(caught.value) == f"model.unfreeze_order: got {order}; list each of c3, c4 and c5 once"
