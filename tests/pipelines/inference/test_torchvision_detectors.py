"""Networks that start from torchvision's RetinaNet and FCOS with ResNet-50; the documents are those of the docs."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from backbones.catalog.licenses import PERMISSIVE
from backbones.published_detectors import coco_classes
from backbones.torchvision_keys import neck_tensors
from backbones.weights_sources.rows import DETECTORS
from heads.dense import DenseHead
from heads.torchvision_heads import head_tensors
from pipelines.base.errors import ConfigError
from pipelines.base.records import Category
from pipelines.inference.init_from import initialize_from, read_source
from pipelines.inference.torchvision_detectors import PLACEHOLDERS, for_document, saved_detector
from pipelines.model import MultiTaskModel, build_model
from pipelines.spec.load import apply_override, read_yaml, validate_document
from pipelines.spec.model import ModelSpec

Document = dict[str, Any]
State = dict[str, Tensor]

PAGE = Path(__file__).parents[3] / "docs" / "finetuning.md"
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}
SIZE_HW = (128, 128)
KEPT = [row for row, name in enumerate(coco_classes()) if name not in PLACEHOLDERS]
CLASSES = [coco_classes()[row] for row in KEPT][::-1]
"""The classes of COCO in another order."""


def documents() -> dict[str, Document]:
    """Return the documents of the page that start from a detector, by their `init_from`."""
    blocks = [read_yaml(block, "") for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)]
    with_start = {block["model"].get("init_from"): block for block in blocks if "model" in block}
    return {name: block for name, block in with_start.items() if str(name).startswith("tv:")}


def spec_of(name: str, changes: Mapping[str, Any] | None = None) -> ModelSpec:
    document = {**documents()[f"tv:{name}"]["model"], "channels_last": False, "unfreeze": {0: "all"}}
    document["backbone"] = {**document["backbone"], "weights": "none"}
    for field, value in (changes or {}).items():
        document = apply_override(document, field, value)
    return ModelSpec.model_validate(document)


@torch.no_grad()
def randomize(detector: nn.Module) -> None:
    """Change weights and statistics, and let classes, but no placeholders, have detections."""
    for module in detector.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.01, 2)
            module.weight.uniform_(0.1, 0.4)
            module.bias.normal_(std=0.2)
    head: Any = detector.head
    for parameter in head.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.01)
    bias = head.classification_head.cls_logits.bias.view(-1, len(coco_classes()))
    bias.fill_(-3)
    bias[:, [row for row in range(len(coco_classes())) if row not in KEPT]] = -30
    # Small deltas, or distances above 0, so that every box has an area.
    head.regression_head.bbox_reg.weight.mul_(0.2)
    head.regression_head.bbox_reg.bias.fill_(2.0 if isinstance(detector, FCOS) else 0.0)


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    """Return torchvision's networks with COCO's number of classes, as its builders create them for trained weights.

    The epsilon of RetinaNet's norms is 0, as for its published weights.
    """
    detectors = {}
    torch.manual_seed(0)
    for name, detector in (("retinanet_resnet50_fpn", RetinaNet), ("fcos_resnet50_fpn", FCOS)):
        body = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
        backbone = _resnet_fpn_extractor(body, 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
        detectors[name] = detector(backbone, len(coco_classes()), min_size=SIZE_HW[0], max_size=SIZE_HW[1]).eval()
        randomize(detectors[name])
    overwrite_eps(detectors["retinanet_resnet50_fpn"], 0.0)
    return detectors


def categories_of(*names: str) -> dict[str, list[Category]]:
    return {"objects": [Category(number, name) for number, name in enumerate(names, 1)]}


def network(spec: ModelSpec, *names: str) -> MultiTaskModel:
    torch.manual_seed(1)
    return build_model(spec, categories_of(*names)).eval()


@torch.no_grad()
def compare(ours: MultiTaskModel, theirs: Any) -> None:
    images = torch.randint(0, 256, (2, 3, *SIZE_HW), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    head = ours.heads["objects"]
    assert isinstance(head, DenseHead)
    raw = head(ours.features(images))
    batch, _ = theirs.transform(list(images.float() / 255))
    outputs = theirs.head(list(theirs.backbone(batch.tensors).values()))
    order = torch.arange(raw.logits.shape[1])
    if head.anchors_per_cell > 1:
        order = order.view(-1, 3, 3).transpose(1, 2).flatten()
    torch.testing.assert_close(raw.logits[:, order].flip(2), outputs["cls_logits"][..., KEPT], **TOLERANCE)
    torch.testing.assert_close(raw.box_codes[:, order], outputs["bbox_regression"], **TOLERANCE)
    if raw.centerness is not None:
        torch.testing.assert_close(raw.centerness[..., None], outputs["bbox_ctrness"], **TOLERANCE)
    for found, expected in zip(head.decode(raw, [SIZE_HW] * 2), theirs(list(images.float() / 255)), strict=True):
        number = len(found.scores)
        assert number > 20
        torch.testing.assert_close(found.scores, expected["scores"][:number], **TOLERANCE)
        # Objects with nearly the same score may have another order.
        difference = (found.boxes_xyxy[:, None] - expected["boxes"]).abs().amax(-1)
        is_same = torch.tensor([[CLASSES[a] == coco_classes()[b] for b in expected["labels"]] for a in found.labels])
        is_same &= (found.scores[:, None] - expected["scores"]).abs() < TOLERANCE["atol"]
        assert (is_same & (difference < SIZE_HW[0] * TOLERANCE["rtol"])).any(1).all()


def test_outputs_equal_those_of_retinanet_with_norms_without_epsilon(theirs: dict[str, Any]) -> None:
    detector = theirs["retinanet_resnet50_fpn"]
    spec = spec_of("retinanet_resnet50_fpn")
    ours = network(spec, *CLASSES)
    report = initialize_from(
        ours, saved_detector(detector.state_dict(), eps=0.0), spec, categories_of(*CLASSES), "tv:x"
    )
    assert report.warnings == []
    assert "init_from tv:x: backbone, heads.objects, neck taken" in str(report)
    compare(ours, detector)


def test_outputs_equal_those_of_the_file_of_an_fcos(theirs: dict[str, Any], tmp_path: Path) -> None:
    detector = theirs["fcos_resnet50_fpn"]
    torch.save({"model": detector.state_dict(), "epoch": 7}, tmp_path / "fcos.pth")
    spec = spec_of("fcos_resnet50_fpn", {"backbone": {"name": "tv:resnet50", "weights": "none"}})
    ours = network(spec, *CLASSES)
    report = initialize_from(ours, read_source(tmp_path / "fcos.pth"), spec, categories_of(*CLASSES), "fcos.pth")
    assert report.warnings == []
    compare(ours, detector)


def test_known_classes_are_taken_by_name_and_others_are_new(theirs: dict[str, Any], tmp_path: Path) -> None:
    state = theirs["retinanet_resnet50_fpn"].state_dict()
    save_file({key: tensor.clone() for key, tensor in state.items()}, tmp_path / "file.safetensors")
    spec, names = spec_of("retinanet_resnet50_fpn"), ("screw", "dog")
    ours = network(spec, *names)
    before = {key: tensor.clone() for key, tensor in ours.state_dict().items()}
    saved = read_source(tmp_path / "file.safetensors")
    report = initialize_from(ours, saved, spec, categories_of(*names), "file.safetensors")
    assert "heads.objects: classes 'screw' are new, 1 taken by name" in str(report)
    key = "heads.objects.class_output.bias"
    found, old = ours.state_dict()[key].view(9, 2), before[key].view(9, 2)
    assert torch.equal(found[:, 0], old[:, 0])
    assert set(found[:, 1].tolist()) == {-3.0}
    other = network(spec, "screw")
    report = initialize_from(other, saved, spec, categories_of("screw"), "file.safetensors")
    assert "heads.objects in part" in str(report)
    assert "classes 'screw' are new, 0 taken by name" in str(report)


def test_classes_of_another_number_are_new(theirs: dict[str, Any]) -> None:
    state = dict(theirs["retinanet_resnet50_fpn"].state_dict())
    for key in ("weight", "bias"):
        tensor = state[f"head.classification_head.cls_logits.{key}"]
        state[f"head.classification_head.cls_logits.{key}"] = tensor[: 9 * 5]
    spec = spec_of("retinanet_resnet50_fpn")
    ours = network(spec, "screw")
    report = initialize_from(ours, saved_detector(state, eps=1e-5), spec, categories_of("screw"), "a.pth")
    assert "its classes there are unknown" in str(report)
    assert "heads.objects.class_output.bias: shape (45,) there, (9,) here" in str(report)


def old_name(key: str) -> str:
    """Return a name of torchvision 0.11 and earlier."""
    key = re.sub(r"(_blocks\.\d)\.0\.", r"\1.", key)
    return re.sub(r"conv\.(\d)\.0\.", lambda match: f"conv.{2 * int(match[1])}.", key)


def test_names_of_older_torchvision_versions_are_known(theirs: dict[str, Any]) -> None:
    state = theirs["retinanet_resnet50_fpn"].state_dict()
    old = {old_name(key): tensor for key, tensor in state.items()}
    assert "backbone.fpn.inner_blocks.0.weight" in old
    assert "head.regression_head.conv.6.bias" in old
    for tensors in (head_tensors, neck_tensors):
        new = tensors(state)
        assert new.keys() == tensors(old).keys()
        assert all(torch.equal(tensor, new[key]) for key, tensor in tensors(old).items())


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("backbone.name", "resnet18", "model.backbone.name: got 'resnet18', but a.pth was trained with resnet50"),
        ("neck.channels", 96, "model.neck.channels: got 96, but a.pth was trained with 256; write 256"),
        ("neck.norm", "bn", "model.neck.norm: got bn, but a.pth was trained with none; write none"),
        ("neck.p6_from", "c5", "model.neck.p6_from: got c5, but a.pth was trained with p5; write p5"),
        ("tasks.objects.num_convs", 2, "model.tasks.objects.num_convs: got 2, but a.pth was trained with 4; write 4"),
        ("tasks.objects.norm", "gn", "model.tasks.objects.norm: got gn, but a.pth was trained with none; write none"),
    ],
)
def test_setting_that_does_not_fit_is_reported_with_the_value_to_write(
    field: str, value: Any, message: str, theirs: dict[str, Any]
) -> None:
    saved = saved_detector(theirs["retinanet_resnet50_fpn"].state_dict(), eps=0.0)
    with pytest.raises(ConfigError, match=re.escape(message)):
        for_document(saved, spec_of("retinanet_resnet50_fpn", {field: value}), "a.pth")


def test_all_settings_that_do_not_fit_are_reported_at_once(theirs: dict[str, Any]) -> None:
    saved = saved_detector(theirs["fcos_resnet50_fpn"].state_dict(), eps=1e-5)
    changes = {"neck.channels": 64, "tasks.objects.bias_before_norm": False, "tasks.objects.levels": ["p3", "p4"]}
    with pytest.raises(ConfigError) as caught:
        for_document(saved, spec_of("fcos_resnet50_fpn", changes), "a.pth")
    assert {problem.field for problem in caught.value.problems} == {f"model.{field}" for field in changes}
    assert "levels: got [p3, p4], but a.pth was trained with [p3, p4, p5, p6, p7]" in str(caught.value)
    assert "bias_before_norm: got false, but a.pth was trained with true; write true" in str(caught.value)


def test_other_anchors_are_a_warning(theirs: dict[str, Any]) -> None:
    saved = saved_detector(theirs["retinanet_resnet50_fpn"].state_dict(), eps=0.0)
    changes = {"tasks.objects.cell_offset": 0.5, "tasks.objects.anchor_sizes": None}
    _, warnings = for_document(saved, spec_of("retinanet_resnet50_fpn", changes), "a.pth")
    assert warnings == [
        "model.tasks.objects.cell_offset: got 0.5, but a.pth was trained with 0: its boxes start displaced; write 0",
        "model.tasks.objects.anchor_sizes: got null, but a.pth was trained with [[32, 40, 50], [64, 80, 101], "
        "[128, 161, 203], [256, 322, 406], [512, 645, 812]]: its boxes start displaced; write [[32, 40, 50], "
        "[64, 80, 101], [128, 161, 203], [256, 322, 406], [512, 645, 812]]",
    ]


def test_head_stands_for_every_task_with_it_and_for_no_other(theirs: dict[str, Any]) -> None:
    saved = saved_detector(theirs["retinanet_resnet50_fpn"].state_dict(), eps=0.0)
    task = documents()["tv:retinanet_resnet50_fpn"]["model"]["tasks"]["objects"]
    spec = spec_of("retinanet_resnet50_fpn", {"tasks": {"a": task, "b": task, "c": {"head": "fcos"}}})
    found, warnings = for_document(saved, spec, "a.pth")
    assert warnings == []
    parts = {key.split(".")[1] for key in found.state if key.startswith("heads.")}
    assert parts == {"a", "b"}
    without, _ = for_document(saved, spec_of("retinanet_resnet50_fpn", {"tasks": {"c": {"head": "fcos"}}}), "a.pth")
    assert {key.split(".")[1] for key in without.state if key.startswith("heads.")} == {"retinanet"}


def test_other_state_dicts_are_not_networks_of_this_project(tmp_path: Path) -> None:
    save_file({"fc.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match="does not hold a network of this project"):
        read_source(tmp_path / "a.safetensors")


def test_documents_of_the_page_are_valid() -> None:
    retinanet, fcos = documents().values()
    assert validate_document(retinanet).model.init_from == "tv:retinanet_resnet50_fpn"
    assert validate_document(retinanet | fcos).model.init_from == "tv:fcos_resnet50_fpn"


def test_licenses_of_published_detectors_are_permissive() -> None:
    assert {source.license for source in DETECTORS.values()} <= PERMISSIVE
    assert {f"tv:{name}" for name in DETECTORS} == set(documents())
