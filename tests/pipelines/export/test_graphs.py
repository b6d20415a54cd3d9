"""The graph of a network predicts what torch predicts, on both runtimes, for other sizes than it was traced with."""

from pathlib import Path

import pytest
from onnx import load
from torch import Tensor

from heads.classification import MulticlassHead
from heads.exportable import ObjectRows
from pipelines.base.errors import ConfigError
from pipelines.export.onnx_file import write_onnx
from pipelines.model import build_model
from pipelines.runtimes.rows import RUNTIMES
from pipelines.spec.model import ModelSpec
from tests.pipelines.export.graph_cases import CLASSES, TASKS, TINY, GraphCase, check_parity, images_of

SIZES = [(1, 64, 96), (3, 96, 160), (2, 256, 128)]
"""Numbers of images, heights and widths."""
FAMILIES = [
    "resnet18", "densenet121", "mobilenet_v3_small", "shufflenet_v2_x0_5", "regnet_y_200mf", "efficientnet_b0",
    "tf_efficientnet_lite0", "repvgg_a0", "mobileone_s0", "convnext_atto", "vit_tiny", "swin_tiny", "dcn_resnet50",
    "googlenet_bn", "alexnet",
]  # fmt: skip


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> GraphCase:
    """A graph with all kinds of tasks, which embeds the boxes that remain."""
    names = ("cells", "kind", "lookup", "scene", "signs")
    return GraphCase({name: TASKS[name] for name in names}, tmp_path_factory.mktemp("inside"))


@pytest.mark.integration
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_graph_with_every_kind_of_task_predicts_what_torch_predicts(inside: GraphCase, runtime: str) -> None:
    found = check_parity(inside, runtime, SIZES)
    assert found["cells"].num_detections > 20
    assert inside.graph.nms == "inside"
    assert inside.graph.fixed_size_hw is None
    assert inside.graph.inputs == ("images", "sizes_hw")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> GraphCase:
    """A graph with every detector."""
    return GraphCase({name: TASKS[name] for name in ("cells", "discs", "rings")}, tmp_path_factory.mktemp("outside"))


@pytest.mark.integration
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_graph_that_ends_before_nms_predicts_what_torch_predicts(outside: GraphCase, runtime: str) -> None:
    found = check_parity(outside, runtime, SIZES)
    assert all(own.num_detections > 20 for own in found.values())
    assert outside.graph.nms == "outside"


@pytest.mark.integration
def test_graph_embeds_the_boxes_of_a_two_stage_detector(tmp_path: Path) -> None:
    tasks = {"lookup": {**TASKS["lookup"], "boxes_from": "rings"}, "rings": TASKS["rings"]}
    case = GraphCase(tasks, tmp_path)
    for runtime in RUNTIMES:
        assert check_parity(case, runtime, SIZES)["rings"].num_detections > 20


@pytest.mark.integration
def test_graph_without_any_detection_predicts_nothing(tmp_path: Path) -> None:
    tasks = {"cells": {**TASKS["cells"], "score_threshold": 1.0}, "lookup": TASKS["lookup"]}
    case = GraphCase(tasks, tmp_path)
    for runtime in RUNTIMES:
        found = case.network(runtime).predict(images_of(2, 64, 64), [(64, 64)] * 2)
        assert [len(prediction.scores) for prediction in found["cells"]] == [0, 0]  # type: ignore[attr-defined]
        assert [prediction.embeddings.shape for prediction in found["lookup"]] == [(0, 8)] * 2  # type: ignore[attr-defined]


def test_soft_nms_inside_a_graph_is_refused_before_the_export(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"model: cannot be exported: soft_nms_sigma: got 0\.5; a graph",
    ):
        GraphCase({"cells": {**TASKS["cells"], "soft_nms_sigma": 0.5}}, tmp_path, nms="inside")


@pytest.mark.integration
def test_graph_has_only_what_its_outputs_need(tmp_path: Path) -> None:
    """The pyramid is not computed for a classification that pools a level of the backbone."""
    case = GraphCase({"kind": TASKS["kind"]}, tmp_path)
    graph = load(case.path).graph
    needed = {output.name for output in graph.output}
    unused = []
    for node in reversed(graph.node):
        if needed.isdisjoint(node.output):
            unused.append(node.name)
        needed.update(node.input)
    assert unused == []
    assert not [
        constant.name for constant in graph.initializer if constant.name not in needed or "neck" in constant.name
    ]


class BranchingHead(MulticlassHead):
    """A head whose computation depends on the values that it computes."""

    def graph_outputs(
        self, raw: Tensor, image_sizes_hw: Tensor, objects: ObjectRows | None = None
    ) -> dict[str, Tensor]:
        return {"scores": raw if raw.sum() > 0 else -raw}


@pytest.mark.integration
def test_network_that_cannot_be_traced_is_one_line_for_the_user(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = ModelSpec.model_validate({"backbone": TINY, "tasks": {"kind": TASKS["kind"]}})
    model = build_model(spec, {"kind": CLASSES}).eval()
    levels = model.backbone.feature_specs
    model.heads["kind"] = BranchingHead(spec.tasks["kind"], level_specs=levels, num_classes=len(CLASSES)).eval()
    with pytest.raises(ConfigError, match=r"^model: cannot be exported: Could not guard on data-dependent [^\n]+$"):
        write_onnx(model, tmp_path / "model.onnx", (64, 96))
    assert "def forward" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", FAMILIES)
def test_network_of_every_family_is_exported(name: str, tmp_path: Path) -> None:
    backbone = {"name": name, "weights": "none"}
    # The finest level of the pyramid depends on all levels of the backbone.
    case = GraphCase({"kind": {"head": "multiclass", "level": "p3"}}, tmp_path, backbone=backbone)
    assert (case.graph.fixed_size_hw is not None) == (name in ("vit_tiny", "swin_tiny"))
    for runtime in RUNTIMES:
        if (name, runtime) == ("dcn_resnet50", "openvino"):
            continue  # OpenVINO has no deformable convolutions, see test_openvino_file.py
        check_parity(case, runtime, SIZES[:2] if case.graph.fixed_size_hw is None else [(1, 64, 96), (3, 64, 96)])
