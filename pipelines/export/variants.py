"""Write one export of a model, evaluate it on its runtime, and decide whether it may be served."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from backbones.catalog.licenses import license_of
from backbones.catalog.lookup import resolve
from pipelines.base.records import Category, DatasetIndex
from pipelines.data.loading.datamodule import JobData
from pipelines.data.loading.sample import padded_size
from pipelines.data.source_images import expected_exif
from pipelines.evaluation.conditions import main_metrics
from pipelines.export.evaluation import Predictions, score_networks
from pipelines.export.example import example_text, inference_text
from pipelines.export.gate import decide
from pipelines.export.inputs import calibration_inputs, one_image
from pipelines.export.model_card import model_card
from pipelines.export.new_folder import new_folder, replace_folder
from pipelines.export.onnx_file import OnnxGraph, write_onnx
from pipelines.export.openvino_file import write_openvino
from pipelines.export.parity import PaddedNetwork, ParityMeter
from pipelines.export.quantization import AccuracyControl, quantize_onnx, quantize_openvino
from pipelines.export.timing import cpu_name, times_in_turns
from pipelines.inference.export import own_version
from pipelines.inference.network import Network, TorchNetwork
from pipelines.model import MultiTaskModel
from pipelines.run_folder.exports_layout import ExportsDir, VariantDir
from pipelines.run_folder.files import file_sha256, write_atomic
from pipelines.runtimes.base import Session
from pipelines.runtimes.network import ExportedNetwork
from pipelines.runtimes.rows import RUNTIMES
from pipelines.spec.export_settings import ExportSettings
from pipelines.spec.exported_variant import ExportedVariant, GraphInput, Latency, MetricPair, WeightsOrigin
from pipelines.spec.job import JobSpec
from pipelines.spec.model import ModelSpec
from pipelines.tasks.base import BestThresholds

LATENCY_ROUNDS = 15
"""Number of measurements of one image, in torch and in the runtime."""


@dataclass(frozen=True)
class ExportSource:
    """The model to export, and the data that it is evaluated on.

    Attributes:
        model: in torch, on the CPU.
        job: its document.
        categories, best_thresholds: by task.
        weights: the file with its weights.
        index: the data.
        data: loaders of the data.
        fingerprints: of the data by split.
    """

    model: MultiTaskModel
    job: JobSpec
    categories: Mapping[str, Sequence[Category]]
    best_thresholds: Mapping[str, BestThresholds]
    weights: Path
    index: DatasetIndex
    data: JobData
    fingerprints: Mapping[str, str]

    @cached_property
    def network(self) -> TorchNetwork:
        """The model as it is served by torch in float32."""
        model = deepcopy(self.model)
        model.fold_norms()
        return TorchNetwork(model, "cpu")


def export_variant(
    source: ExportSource, settings: ExportSettings, exports: ExportsDir, report: Callable[[str], None] = print
) -> ExportedVariant:
    """Write one export of a model to its folder, which replaces an earlier one, and return its description.

    The folder gets its name when everything in it is complete and evaluated. The caller has locked the run folder.

    Args:
        source: the model and its data.
        settings: what to export.
        exports: of the model.
        report: is called with the name of each step that begins.

    Raises:
        ConfigError: the network cannot be exported.
        NumericsError: the export predicts numbers that are not finite.
        OSError: the disk is full, or the folder cannot be written.
    """
    target = exports.variant(settings.variant_name)
    with new_folder(exports) as folder:
        report("writing the graph")
        graph = _write_graph(source, settings, folder, report)
        described = _described(source, settings, folder, graph)
        report(f"scoring {' and '.join(settings.splits)} in torch and in the runtime")
        described = _evaluated(source, settings, folder, described)
        new = VariantDir(folder)
        new.example.write_text(example_text(described), "utf-8")
        new.inference.write_text(inference_text(described), "utf-8")
        new.card.write_text(model_card(described, source.job.name), "utf-8")
        content = described.model_dump(mode="json")
        write_atomic(new.description, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        replace_folder(target.path, folder)
    return described


def _write_graph(
    source: ExportSource, settings: ExportSettings, folder: Path, report: Callable[[str], None]
) -> OnnxGraph:
    runtime = RUNTIMES[settings.runtime]
    target = folder / runtime.graph_file
    size_hw = padded_size(source.job.data.image_size_hw)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        float_onnx, float_graph = Path(scratch, "float.onnx"), Path(scratch, f"float{target.suffix}")
        graph = write_onnx(source.model, float_onnx, size_hw, settings.nms)
        is_onnx = target.suffix == float_onnx.suffix
        if settings.precision != "int8":
            if is_onnx:
                shutil.move(float_onnx, target)
            else:
                write_openvino(float_onnx, target)
            return graph
        inputs = calibration_inputs(source.data, settings.calibration_images, graph.sizes_hw)
        report(f"quantizing with {len(inputs)} images of train")
        if is_onnx:
            quantize_onnx(float_onnx, target, inputs)
        else:
            write_openvino(float_onnx, float_graph)
            quantize_openvino(float_graph, target, inputs, accuracy_control(source, settings, graph.sizes_hw, report))
    return graph


def accuracy_control(
    source: ExportSource,
    settings: ExportSettings,
    sizes_hw: Sequence[tuple[int, int]] | None,
    report: Callable[[str], None],
) -> AccuracyControl | None:
    """Return what keeps the integers accurate: the score is 1 plus the worst change of a main metric from torch."""
    if not settings.accuracy_aware:
        return None
    model = source.job.model
    (reference,) = score_networks([source.network], model, source.index, source.data)
    names = [f"val/{task}/{metric}" for task, metric in main_metrics(model).items()]

    def score(session: Session) -> float:
        network = ExportedNetwork(session, model, source.model.temperatures, sizes_hw)
        (own,) = score_networks([network], model, source.index, source.data)
        changes = [(own[name] or 0.0) - value for name in names if (value := reference[name]) is not None]
        worst = min(changes, default=0.0)
        report(f"worst change of a main metric on val: {worst:+.4f}")
        return 1 + worst  # nncf divides by the score of the network in float32

    return AccuracyControl(score, settings.allowed_drop)


def _described(source: ExportSource, settings: ExportSettings, folder: Path, graph: OnnxGraph) -> ExportedVariant:
    """Return the description without an evaluation."""
    shapes: dict[str, tuple[int | str, ...]] = {
        "images": ("batch", 3, *(graph.fixed_size_hw or ("height", "width"))),
        "sizes_hw": ("batch", 2),
    }
    return ExportedVariant(
        runtime=settings.runtime,
        precision=settings.precision,
        nms=graph.nms,
        weights_sha256=file_sha256(source.weights),
        size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        files={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
        pyramidion=own_version(),
        graph=RUNTIMES[settings.runtime].graph_file,
        inputs=tuple(
            GraphInput(name=name, dtype="uint8" if name == "images" else "int64", shape=shapes[name])
            for name in graph.inputs
        ),
        sizes_hw=graph.sizes_hw,
        image_size=source.job.data.image_size,
        exif=expected_exif(source.job.data),
        model=source.job.model,
        categories={task: tuple(classes) for task, classes in source.categories.items()},
        best_thresholds={task: dict(best) for task, best in source.best_thresholds.items()},
        temperatures=dict(source.model.temperatures),
        weights=_origin(source.job.model),
        data_fingerprints=dict(source.fingerprints),
    )


def _origin(model: ModelSpec) -> WeightsOrigin:
    backbone = model.backbone
    is_default = backbone.weights == "default"
    return WeightsOrigin(
        backbone=backbone.label,
        weights=backbone.weights,
        license=license_of(resolve(backbone.network)) if is_default else None,
    )


def _evaluated(
    source: ExportSource, settings: ExportSettings, folder: Path, described: ExportedVariant
) -> ExportedVariant:
    """Return the description with metrics, parity, times and the decision."""
    session = RUNTIMES[settings.runtime].load(folder / described.graph, settings.precision, torch.get_num_threads())
    network = ExportedNetwork(session, described.model, described.temperatures, described.sizes_hw)
    networks: list[Network] = [source.network, network]
    if described.sizes_hw is not None:
        # Padding changes what such a backbone computes. The metrics show by how much: they are compared with those of
        # torch without it. Parity is that of the same padded images.
        networks.append(PaddedNetwork(source.network, described.sizes_hw))
    meter = ParityMeter()
    metrics: dict[str, MetricPair] = {}

    def compare(found: Sequence[Predictions]) -> None:
        by_torch, by_runtime, *by_torch_padded = found
        meter.add((by_torch_padded[0] if by_torch_padded else by_torch, by_runtime))

    for split in settings.splits:
        torch_summary, summary, *_ = score_networks(
            networks,
            source.job.model,
            source.index,
            source.data,
            split,
            observe=compare if split == "val" else None,
        )
        metrics |= {name: MetricPair(torch=torch_summary[name], variant=summary[name]) for name in summary}
    parity = meter.result if settings.precision == "fp32" else None
    gate = decide(source.job.model, metrics, parity, settings.allowed_drop)
    return described.model_copy(
        update={
            "metrics": metrics,
            "parity": parity,
            "latency": _latency(source, network),
            "gate": gate,
            "servable": gate.is_passed,
        }
    )


def _latency(source: ExportSource, network: ExportedNetwork) -> Latency:
    images, sizes = one_image(source.job.data.image_size_hw)
    calls = [lambda: source.network.predict(images, sizes), lambda: network.predict(images, sizes)]
    torch_s, runtime_s = (sorted(own)[len(own) // 2] for own in times_in_turns(calls, LATENCY_ROUNDS))
    return Latency(
        runtime_ms=1000 * runtime_s,
        torch_ms=1000 * torch_s,
        threads=torch.get_num_threads(),
        size_hw=sizes[0],
        cpu=cpu_name(),
    )
