"""The rules of `recipe:finetune`, one row each; docs/finetuning.md has a row for each, too."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipelines.base.errors import ConfigError
from pipelines.data.drafting import finetune_rules as rules
from pipelines.data.drafting.choices import DataFacts
from pipelines.data.drafting.finetune_rules import Choice
from pipelines.data.drafting.machine import PROBE_S, PROBED_SIDE, PRODUCTS, TRAINING_SHARE, Machine, measured_macs_per_s

GIB = 2**30
CELLS = DataFacts(
    num_images={"train": 205, "val": 87, "test": 72},
    num_classes=3,
    num_labels=4888,
    has_several_classes=True,
    size_hw=(480, 640),
    object_px=96,
    is_rotated=False,
    errors=[],
    small_object_px=40,
    large_object_px=180,
    max_objects=30,
)
"""Blood cells."""
CLASSES = replace(CELLS, object_px=None, small_object_px=None, large_object_px=None, has_several_classes=False)
LITE = frozenset({"tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2", "mobilenet_v2_tv"})
CPU = Machine(has_gpu=False, num_cores=2, memory_bytes=16 * GIB, networks=LITE, cpu_macs_per_s=4e9)
GPU = Machine(has_gpu=True, num_cores=16, memory_bytes=128 * GIB, networks=LITE, cpu_macs_per_s=4e9)
FINE = replace(CELLS, object_px=48, large_object_px=120)


def head(**settings: Any) -> dict[str, Any]:
    return {f"model.tasks.TASK.{name}": value for name, value in settings.items()}


P3_TO_P5 = ["p3", "p4", "p5"]
ROWS: list[tuple[str, Callable[[], Choice], dict[str, Any]]] = [
    (
        "objects_of_the_smallest_class_have_20_px",
        lambda: rules.choose_image_size(CELLS),
        {"data.image_size": 320},
    ),
    (
        "images_are_at_most_640_px_if_objects_are_tiny",
        lambda: rules.choose_image_size(replace(CELLS, size_hw=(3000, 4000))),
        {"data.image_size": 640},
    ),
    (
        "images_are_not_enlarged",
        lambda: rules.choose_image_size(replace(CELLS, size_hw=(100, 150), small_object_px=8)),
        {"data.image_size": 160},
    ),
    (
        "images_with_large_objects_have_224_px",
        lambda: rules.choose_image_size(replace(CELLS, small_object_px=300)),
        {"data.image_size": 224},
    ),
    ("images_with_classes_have_224_px", lambda: rules.choose_image_size(CLASSES), {"data.image_size": 224}),
    (
        "small_images_with_classes_are_not_enlarged",
        lambda: rules.choose_image_size(replace(CLASSES, size_hw=(50, 60))),
        {"data.image_size": 64},
    ),
    (
        "backbone_of_a_short_budget_is_small",
        lambda: rules.choose_backbone(CELLS, 256, CPU, 180),
        {"model.backbone.name": "tf_efficientnet_lite0", "model.backbone.weights": "default"},
    ),
    (
        "backbone_of_a_long_budget_is_large",
        lambda: rules.choose_backbone(CELLS, 256, CPU, 7200),
        {"model.backbone.name": "tf_efficientnet_lite2", "model.backbone.weights": "default"},
    ),
    (
        "backbone_of_a_slow_machine_is_small",
        lambda: rules.choose_backbone(CELLS, 256, replace(CPU, cpu_macs_per_s=4e8), 7200),
        {"model.backbone.name": "tf_efficientnet_lite0", "model.backbone.weights": "default"},
    ),
    (
        "backbone_has_weights_at_hand",
        lambda: rules.choose_backbone(CELLS, 256, replace(CPU, networks=frozenset({"mobilenet_v2_tv"})), 60),
        {"model.backbone.name": "mobilenet_v2_tv", "model.backbone.weights": "default"},
    ),
    (
        "neck_is_narrow_on_the_cpu",
        lambda: rules.choose_neck(CELLS, CPU),
        {"model.neck.channels": 96, "model.neck.norm": "bn"},
    ),
    (
        "neck_is_wide_on_a_gpu",
        lambda: rules.choose_neck(CELLS, GPU),
        {"model.neck.channels": 256, "model.neck.norm": "bn"},
    ),
    (
        "neck_is_narrow_if_no_head_reads_it",
        lambda: rules.choose_neck(CLASSES, GPU),
        {"model.neck.channels": 16, "model.neck.norm": "bn"},
    ),
    (
        "small_objects_are_assigned_to_finer_levels",
        lambda: rules.choose_boxes_head(FINE, 640, CPU),
        head(
            head="fcos", levels=P3_TO_P5, range_scale=4, center_sampling_radius=0.75, num_convs=2, score_threshold=0.02
        ),
    ),
    (
        "large_objects_need_coarser_levels",
        lambda: rules.choose_boxes_head(replace(CELLS, object_px=200, large_object_px=600), 640, GPU),
        head(head="fcos", levels=[*P3_TO_P5, "p6"], range_scale=8, score_threshold=0.02),
    ),
    (
        "anchors_are_those_of_the_levels",
        lambda: rules.choose_boxes_head(FINE, 640, CPU, "retinanet"),
        head(head="retinanet", levels=P3_TO_P5, anchor_scale=2.0, num_convs=2, score_threshold=0.02),
    ),
    (
        "crowded_images_keep_more_detections",
        lambda: rules.choose_boxes_head(replace(FINE, max_objects=150), 640, CPU, "faster_rcnn"),
        head(head="faster_rcnn", levels=P3_TO_P5, anchor_scale=2.0, score_threshold=0.02, max_detections=300),
    ),
    ("one_class_per_image", lambda: rules.choose_classes_head(CLASSES), head(head="multiclass")),
    (
        "several_classes_per_image",
        lambda: rules.choose_classes_head(replace(CLASSES, has_several_classes=True)),
        head(head="multilabel"),
    ),
    ("cpu_has_small_batches", lambda: rules.choose_batch_size(CELLS, CPU), {"data.sources.*.batch_size": 4}),
    (
        "many_images_allow_larger_batches",
        lambda: rules.choose_batch_size(replace(CELLS, num_images={"train": 2000, "val": 9}), CPU),
        {"data.sources.*.batch_size": 8},
    ),
    (
        "few_images_have_smaller_batches",
        lambda: rules.choose_batch_size(replace(CELLS, num_images={"train": 10, "val": 9}), CPU),
        {"data.sources.*.batch_size": 2},
    ),
    ("gpu_is_measured", lambda: rules.choose_batch_size(CELLS, GPU), {"data.sources.*.batch_size": "auto"}),
    (
        "rate_follows_the_batch",
        lambda: rules.choose_learning_rate(16),
        {
            "model.optimizer.name": "adamw",
            "model.optimizer.lr": 2 * rules.RATE,
            "model.optimizer.weight_decay": 0.05,
            "model.schedule.warmup_steps": 100,
        },
    ),
    ("whole_network_is_trained", lambda: rules.choose_transfer(2000), {"model.transfer": "full"}),
    ("shortest_budget_trains_neck_and_head", lambda: rules.choose_transfer(50), {"model.transfer": "freeze"}),
    ("few_passes_are_augmented_lightly", lambda: rules.choose_augmentation(3), {"data.augment": "light"}),
    ("many_passes_are_augmented", lambda: rules.choose_augmentation(40), {"data.augment": "default"}),
    ("very_many_passes_are_augmented_strongly", lambda: rules.choose_augmentation(300), {"data.augment": "strong"}),
    ("average_is_relative_to_the_run", rules.choose_average, {"model.ema.horizon": 0.05}),
    ("validation_is_rare", lambda: rules.choose_validation(CELLS), {"trainer.check_val_every_n_epoch": 2}),
    (
        "few_images_are_cached",
        lambda: rules.choose_loading(CELLS, CPU),
        {"data.cache": "ram", "data.num_workers": 0},
    ),
    (
        "many_images_are_read_by_workers_beside_a_gpu",
        lambda: rules.choose_loading(replace(CELLS, num_images={"train": 100_000}), GPU),
        {"data.cache": "none", "data.num_workers": 8},
    ),
]


@pytest.mark.parametrize(("choose", "expected"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_rule(choose: Callable[[], Choice], expected: dict[str, Any]) -> None:
    choice = choose()
    assert choice.fields == expected
    assert choice.reason


def test_reason_for_the_size_of_images_with_classes_is_the_limit_that_applies() -> None:
    assert "not enlarged" in rules.choose_image_size(replace(CLASSES, size_hw=(50, 60))).reason
    assert "pretraining" in rules.choose_image_size(CLASSES).reason


def test_speed_of_the_cpu_is_measured_by_products_of_matrices() -> None:
    seconds = iter([0, PROBE_S / 4, PROBE_S / 2, PROBE_S])
    expected = TRAINING_SHARE * 2 * PRODUCTS * PROBED_SIDE**3 / PROBE_S
    assert measured_macs_per_s(lambda: next(seconds)) == pytest.approx(expected)


def test_machine_without_weights_is_told_how_to_get_them() -> None:
    with pytest.raises(ConfigError, match=r"model.backbone.name: is missing, .* install pyramidion\[weights\]"):
        rules.choose_all(CELLS, replace(CPU, networks=frozenset()), 180)


def test_given_network_and_head_decide_what_depends_on_them() -> None:
    chosen = rules.choose_all(CELLS, replace(CPU, networks=frozenset()), 180, head="retinanet", network="resnet18")
    fields = {name: value for choice in chosen for name, value in choice.fields.items()}
    assert fields["model.tasks.TASK.head"] == "retinanet"
    assert "model.backbone.name" not in fields
