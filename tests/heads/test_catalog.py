"""The catalog of heads and losses, and the settings that it derives from."""

import re
import subprocess
import sys

import pytest
import torch

from heads.base import Head
from heads.catalog import HEADS, LOSSES
from heads.create import create_head
from heads.detection_spec import RetinaNetHeadSpec
from heads.loss_rows import METRIC_LOSSES
from heads.spec import HEAD_SPECS, head_spec
from tests.heads.building import build_head


@pytest.mark.parametrize("name", HEADS)
def test_every_head_of_the_catalog_can_be_created(level_specs, name):
    assert isinstance(build_head(name, level_specs=level_specs, num_classes=2), Head)


def test_every_head_has_settings_under_its_name():
    assert list(HEADS) == list(HEAD_SPECS)
    assert set(HEADS) >= {"retinanet", "fcos", "multiclass", "multilabel", "embedding"}
    assert all(spec(head=name).head == name for name, spec in HEAD_SPECS.items())


def test_settings_accept_the_losses_of_the_catalog():
    fields = {name: spec.model_json_schema()["properties"] for name, spec in HEAD_SPECS.items()}
    assert tuple(fields["embedding"]["loss"]["enum"]) == HEADS["embedding"].losses == tuple(METRIC_LOSSES)
    assert set(fields["retinanet"]["box_loss"]["enum"]) < set(HEADS["retinanet"].losses)
    assert fields["fcos"]["box_loss"]["const"] in HEADS["fcos"].losses


def test_every_loss_of_a_head_is_in_the_catalog():
    named = {loss for head in HEADS.values() for loss in head.losses}
    assert named == set(LOSSES)
    for head in HEADS.values():
        assert all(head.kind in LOSSES[loss].kinds for loss in head.losses)


def test_papers_are_arxiv_ids():
    papers = [entry.paper for entry in (*HEADS.values(), *LOSSES.values()) if entry.paper]
    assert papers
    assert all(re.fullmatch(r"\d{4}\.\d{5}", paper) for paper in papers)


def test_catalog_and_settings_do_not_import_torch():
    code = "import sys, heads.catalog, heads.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_error_for_an_unknown_head_suggests_the_closest_name():
    with pytest.raises(ValueError, match=r"'retinanett' is not in the catalog; did you mean 'retinanet'\?"):
        head_spec("retinanett")


@pytest.mark.parametrize("kind", HEADS)
def test_unknown_option_is_rejected(kind):
    with pytest.raises(ValueError, match=r"no_such_option\n.*not permitted"):
        head_spec(kind, no_such_option=1)


@pytest.mark.parametrize("kind", [kind for kind, entry in HEADS.items() if entry.kind != "classification"])
def test_class_weights_are_for_classification_only(level_specs, kind):
    with pytest.raises(TypeError, match="class_weights"):
        create_head(head_spec(kind), level_specs=level_specs, num_classes=1, class_weights=torch.ones(1))


@pytest.mark.parametrize("kind", HEADS)
def test_head_without_classes_is_rejected(level_specs, kind):
    with pytest.raises(ValueError, match="num_classes: got 0"):
        build_head(kind, level_specs=level_specs, num_classes=0)


def test_unknown_level_and_unequal_channels_are_rejected(level_specs):
    with pytest.raises(ValueError, match=r"levels.1\n.*input_value='p9'"):
        head_spec("fcos", levels=("p3", "p9"))
    without_p7 = {level: spec for level, spec in level_specs.items() if level != "p7"}
    with pytest.raises(ValueError, match=r"levels: got \['p7'\]"):
        build_head("fcos", level_specs=without_p7, num_classes=1)
    with pytest.raises(ValueError, match="channels differ"):
        build_head("retinanet", level_specs=level_specs | {"p4": level_specs["c4"]}, num_classes=1)


@pytest.mark.parametrize("levels", [(), ("p4", "p3"), ("p3", "p3")])
def test_levels_not_listed_once_and_finest_first_are_rejected(levels):
    with pytest.raises(ValueError, match="list each level once, finest first"):
        head_spec("fcos", levels=levels)


def test_negative_threshold_above_the_positive_one_is_rejected():
    with pytest.raises(ValueError, match=r"negative_iou: got 0.6 with positive_iou: 0.5; choose at most positive_iou"):
        RetinaNetHeadSpec(head="retinanet", negative_iou=0.6)
    assert RetinaNetHeadSpec(head="retinanet", negative_iou=0.5).negative_iou == 0.5


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((8,), (16,)), "anchor_sizes: got 2 lists for the 3 levels p3, p4, p5; write one list for each level"),
        (((8,), (16, 20), (32,)), r"anchor_sizes: got lists of \[1, 2, 1\] sizes; write the same number"),
        (((), (), ()), r"anchor_sizes: got lists of \[0, 0, 0\] sizes"),
    ],
)
def test_anchor_sizes_that_do_not_belong_to_the_levels_are_rejected(sizes, message):
    with pytest.raises(ValueError, match=message):
        head_spec("retinanet", levels=("p3", "p4", "p5"), anchor_sizes=sizes)


def test_settings_of_the_second_stage_are_checked_under_their_own_names(level_specs):
    with pytest.raises(ValueError, match=r"roi_negative_iou: got 0.6 with roi_positive_iou: 0.5; choose at most"):
        head_spec("faster_rcnn", roi_negative_iou=0.6)
    with pytest.raises(ValueError, match="list each level once, finest first"):
        head_spec("faster_rcnn", roi_levels=("p4", "p3"))
    without_p6 = {level: spec for level, spec in level_specs.items() if level != "p6"}
    with pytest.raises(ValueError, match=r"roi_levels: got \['p6'\]"):
        build_head("faster_rcnn", level_specs=without_p6, num_classes=1, levels=("p3",))


@pytest.mark.parametrize("options", [{"positive_iou": 0}, {"negative_iou": -0.1}, {"crowd_iof": 0}, {"crowd_iof": 1.1}])
def test_matching_thresholds_outside_their_range_are_rejected(options):
    with pytest.raises(ValueError, match=r"greater than|less than"):
        head_spec("retinanet", **options)
