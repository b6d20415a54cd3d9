"""An export of a model that is a tiny graph with known answers, so that a test sees what has computed them."""

from pathlib import Path

from onnx import TensorProto, helper, save_model

from pipelines.base.records import Category
from pipelines.run_folder.exports_layout import VariantDir
from pipelines.run_folder.files import file_sha256
from pipelines.run_folder.layout import ExportedModelDir
from pipelines.spec.exported_variant import ExportedVariant, Gate, Latency
from pipelines.spec.job import JobSpec

CLASSES = ("red", "green", "blue")


def write_channel_means(
    folder: Path,
    job: JobSpec,
    reasons: tuple[str, ...] = (),
    runtime_ms: float = 10,
    size_hw: tuple[int, int] | None = None,
    model: Path | None = None,
) -> ExportedVariant:
    """Write an export for ONNX Runtime, whose scores of the task `scene` are the means of the image's channels.

    Args:
        folder: is created.
        job: the document of the model, with this one task.
        reasons: why it may not be served; by default it may.
        runtime_ms: time of one image; torch needs 20 ms.
        size_hw: the only size of images that the graph takes; None: it takes any.
        model: folder of the exported model; None: none has these weights.
    """
    folder.mkdir(parents=True)
    _write_graph(folder / "model.onnx", size_hw or ("height", "width"))
    variant = ExportedVariant(
        pyramidion="1",
        runtime="onnxruntime",
        precision="fp32",
        nms="outside",
        graph="model.onnx",
        size_bytes=1,
        inputs=({"name": "images", "dtype": "uint8", "shape": ("batch", 3, "height", "width")},),
        sizes_hw=None if size_hw is None else (size_hw,),
        image_size=job.data.image_size,
        exif="apply",
        model=job.model,
        categories={"scene": tuple(Category(number, name) for number, name in enumerate(CLASSES, 1))},
        weights={"backbone": "resnet14_thin", "weights": "none", "license": None},
        weights_sha256="00" if model is None else file_sha256(ExportedModelDir(model).weights),
        files={"model.onnx": file_sha256(folder / "model.onnx")},
        latency=Latency(runtime_ms=runtime_ms, torch_ms=20, threads=1, size_hw=(96, 96), cpu="a CPU"),
        gate=Gate(max_drop=0.005, metrics=("scene/mAP",), reasons=reasons),
        servable=not reasons,
    )
    VariantDir(folder).description.write_text(variant.model_dump_json())
    return variant


def _write_graph(path: Path, size_hw: tuple[int, int] | tuple[str, str]) -> None:
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    scale = helper.make_tensor("scale", TensorProto.FLOAT, [], [255.0])
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["means"], keepdims=0),
        helper.make_node("Div", ["means", "scale"], ["scene.scores"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, *size_hw])
    scores = helper.make_tensor_value_info("scene.scores", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "channel means", [images], [scores], [axes, scale])
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
