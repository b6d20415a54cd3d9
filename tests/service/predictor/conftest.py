"""A registered model whose export is a tiny graph with known answers, so that a test sees what has computed them."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from pipelines.base.records import Category
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.spec.exported_variant import ExportedVariant, Gate, Latency, VariantResult
from pipelines.spec.job import JobSpec
from pipelines.tracking.model_versions import ModelVersion
from pipelines.tracking.registry import Registry

AddExport = Callable[..., VariantResult]
CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="session")
def scene_job(small: dict[str, Any]) -> JobSpec:
    """A document with one task, whose classes are the channels."""
    document = deepcopy(small)
    document["model"]["tasks"] = {"scene": document["model"]["tasks"]["scene"]}
    document["data"]["sources"]["shapes"]["labels"].pop(0)
    return JobSpec.model_validate(document)


@pytest.fixture(scope="session")
def scene_model(scene_job: JobSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model that has not been trained."""
    from pipelines.inference.export import export_model
    from pipelines.model import build_model

    categories = {"scene": [Category(number, name) for number, name in enumerate(CLASSES, 1)]}
    folder = tmp_path_factory.mktemp("scene model")
    export_model(build_model(scene_job.model, categories), scene_job, categories, folder)
    return folder


@pytest.fixture
def scene(
    register: Callable[[Path, str], ModelVersion], scene_model: Path, request: pytest.FixtureRequest
) -> ModelVersion:
    """A version without exports, of a model of its own."""
    return register(scene_model, f"scene {request.node.nodeid.rpartition(':')[2]}")


@pytest.fixture
def add_export(scene: ModelVersion, scene_job: JobSpec, service_registry: Registry, tmp_path: Path) -> AddExport:
    """Add an export to `scene`, whose scores are the means of the image's channels, and return its result."""

    def add(*reasons: str, runtime_ms: float = 10, is_damaged: bool = False) -> VariantResult:
        variant = ExportedVariant(
            pyramidion="1",
            runtime="onnxruntime",
            precision="fp32",
            nms="outside",
            graph="model.onnx",
            size_bytes=1,
            inputs=(),
            image_size=scene_job.data.image_size,
            model=scene_job.model,
            categories={"scene": tuple(Category(number, name) for number, name in enumerate(CLASSES, 1))},
            weights={"backbone": "resnet14_thin", "weights": "none", "license": None},
            weights_sha256="00",
            latency=Latency(runtime_ms=runtime_ms, torch_ms=20, threads=1, size_hw=(96, 96), cpu="a CPU"),
            gate=Gate(max_drop=0.005, reasons=reasons),
            servable=not reasons,
        )
        folder = ExportsDir.of(tmp_path).variant(f"{variant.name} {runtime_ms}")
        folder.path.mkdir(parents=True)
        folder.description.write_text(variant.model_dump_json())
        write_channel_means(folder.path / variant.graph)
        if is_damaged:
            (folder.path / variant.graph).write_bytes(b"no graph")
        service_registry.add_export(scene, folder.path, variant.result)
        return variant.result

    return add


def write_channel_means(path: Path) -> None:
    """Write a graph whose output `scene.scores` is the mean of each channel, between 0 and 1."""
    from onnx import TensorProto, helper, save_model

    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [255.0])
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "scale"], ["scene.scores"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, "height", "width"])
    scores = helper.make_tensor_value_info("scene.scores", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "channel means", [images], [scores], [axes, scale])
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
