"""Registered models for `tests.bench.predict`, which are untrained: they cost as much as trained ones."""

import tempfile
from pathlib import Path
from typing import Literal

import torch

from pipelines.base.records import Category
from pipelines.data.loading.sample import padded_size
from pipelines.export.onnx_file import write_onnx
from pipelines.export.openvino_file import write_openvino
from pipelines.inference.export import export_model, load_exported
from pipelines.inference.predictor import Predictor
from pipelines.model import build_model
from pipelines.run_folder.exports_layout import VariantDir
from pipelines.run_folder.files import file_sha256
from pipelines.run_folder.layout import ExportedModelDir
from pipelines.runtimes.rows import RUNTIMES
from pipelines.spec.exported_variant import ExportedVariant, Gate, Latency, RuntimeName, WeightsOrigin
from pipelines.spec.learning import SelectSpec
from pipelines.spec.load import load_job
from pipelines.tracking.mlflow_store import connect, find_experiment, find_store
from pipelines.tracking.registry import Registry
from service.settings import Settings

MODELS = {
    "resnet14_thin, 160 px": (("model.backbone.name", "resnet14_thin"), ("data.image_size", "160")),
    "resnet18, 512 px": (("model.backbone.name", "resnet18"), ("data.image_size", "512")),
}
NUM_CLASSES = 5
NUM_BOXES = "20"
"""Maximum number of detections, which an untrained detector always reaches; typical for images of the demo or BCCD."""


def make_models(root: Path, runtime: RuntimeName | Literal["torch"], threads: int) -> dict[str, tuple[str, Predictor]]:
    """Export and register all models; return their names in the registry, and predictors of this process."""
    store = find_store(root)
    registry, client = Registry(store), connect(store)
    experiment = find_experiment(client, store, "bench")
    made = {}
    for number, (label, overrides) in enumerate(MODELS.items()):
        job = load_job(["recipe:demo"], [*overrides, ("model.tasks.shapes.max_detections", NUM_BOXES)])
        categories = {task: [Category(k + 1, f"{task} {k}") for k in range(NUM_CLASSES)] for task in job.model.tasks}
        torch.manual_seed(0)
        folder, name = root / "exported" / str(number), f"model-{number}"
        export_model(build_model(job.model, categories), job, categories, folder)
        version = registry.register(
            folder,
            name=name,
            run_id=client.create_run(experiment).info.run_id,
            metrics={},
            select=SelectSpec(metric="val/shapes/AP"),
            val_fingerprint="none",
        )
        registry.set_alias(name, "champion", version.version)
        batch_size = Settings().predict_batch_size
        if runtime == "torch":
            made[label] = name, Predictor.from_exported(folder, device="cpu", batch_size=batch_size)
            continue
        export = root / "exports" / str(number)
        registry.add_export(version, export, _write_export(folder, export, runtime).result)
        made[label] = name, Predictor.from_variant(folder, export, threads=threads, batch_size=batch_size)
    return made


def _write_export(model_folder: Path, folder: Path, runtime: RuntimeName) -> ExportedVariant:
    """Write a float32 export that has not been evaluated, but may be served, and return its description."""
    model, job, categories = load_exported(model_folder)
    size_hw = padded_size(job.data.image_size_hw)
    graph_file = RUNTIMES[runtime].graph_file
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        onnx_file = folder / graph_file if runtime == "onnxruntime" else Path(scratch) / "model.onnx"
        graph = write_onnx(model, onnx_file, size_hw)
        if runtime == "openvino":
            write_openvino(onnx_file, folder / graph_file)
    variant = ExportedVariant(
        pyramidion="bench",
        runtime=runtime,
        precision="fp32",
        nms=graph.nms,
        graph=graph_file,
        size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        inputs=(),
        sizes_hw=None if graph.fixed_size_hw is None else (graph.fixed_size_hw,),
        image_size=job.data.image_size,
        exif="apply",
        model=job.model,
        categories={task: tuple(classes) for task, classes in categories.items()},
        weights=WeightsOrigin(backbone=job.model.backbone.label, weights="none", license=None),
        weights_sha256=file_sha256(ExportedModelDir(model_folder).weights),
        files={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
        latency=Latency(runtime_ms=1, torch_ms=2, threads=1, size_hw=size_hw, cpu="unknown"),
        gate=Gate(max_drop=0),
        servable=True,
    )
    VariantDir(folder).description.write_text(variant.model_dump_json())
    return variant
