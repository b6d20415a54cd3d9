"""The content of `model.json` in an export of a model to another runtime. Torch-free."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field

from pipelines.base.records import Category
from pipelines.spec.base import Spec
from pipelines.spec.data import ImageSize
from pipelines.spec.model import ModelSpec
from pipelines.spec.model_description import Temperature
from pipelines.tasks.base import Share

CALIBRATION_IMAGES = 128
"""Number of images of train that the scales of int8 are measured on, by default."""

MAX_SIDE_PX = 8192
"""Largest height and width of images that a graph takes."""

RuntimeName = Literal["onnxruntime", "openvino"]
VariantPrecision = Literal["fp32", "bf16", "int8"]
GraphFormat = Literal["onnx", "openvino"]
Nms = Literal["outside", "inside"]
"""The place where overlapping boxes are dropped: after the graph (outside) or in it (inside)."""

RUNTIME_OF: dict[GraphFormat, RuntimeName] = {"onnx": "onnxruntime", "openvino": "openvino"}
"""The runtime of each format of graphs."""
PRECISIONS: dict[RuntimeName, tuple[VariantPrecision, ...]] = {
    "onnxruntime": ("fp32", "int8"),
    "openvino": ("fp32", "bf16", "int8"),
}
"""Precisions by runtime."""

Milliseconds = Annotated[float, Field(gt=0)]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
PaddedSide = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]


class ExportRecord(Spec):
    """A part of what is stored about an export.

    Fields of later versions are ignored: the pyfunc of a registered model reads its exports with the code that the
    model was registered with, and exports are added later.
    """

    model_config = ConfigDict(extra="ignore")


class GraphInput(ExportRecord):
    """An input of the graph; sizes that differ from run to run are words, such as `batch`."""

    name: str
    dtype: Literal["uint8", "int64"]
    shape: tuple[int | str, ...]


class WeightsOrigin(ExportRecord):
    """The weights that training started from; their license applies to the export, too."""

    backbone: str
    weights: str
    license: str | None = Field(description="null: it is not recorded, or training started from random weights")


class MetricPair(ExportRecord):
    """A metric of the model on a split; null where it is undefined."""

    torch: float | None = Field(description="of the model in torch float32")
    variant: float | None = Field(description="of the export, in its runtime")


class Parity(ExportRecord):
    """Largest differences between the outputs of the runtime and those of torch float32, for images of val; null if the
    model has no such outputs."""

    num_images: int
    scores: float | None
    boxes_px: float | None
    embeddings: float | None = Field(description="of images")
    missing_detections: float = Field(description="share of the detections of torch that the export lacks")


class Latency(ExportRecord):
    """Median time of one image of the model's size, measured in turns with torch float32 on the same machine."""

    runtime_ms: Milliseconds
    torch_ms: Milliseconds
    threads: int
    size_hw: tuple[int, int]
    cpu: str = Field(description="name of the processor")

    @property
    def speedup(self) -> float:
        """The time of torch divided by that of the runtime."""
        return self.torch_ms / self.runtime_ms

    @property
    def threads_text(self) -> str:
        """The number of threads, in words."""
        return "1 thread" if self.threads == 1 else f"{self.threads} threads"


class Gate(ExportRecord):
    """The decision whether an export may be served."""

    max_drop: float = Field(description="by how much the main metric of each task may fall on val")
    metrics: tuple[str, ...] = Field((), description="the main metric of each task, as <task>/<metric>")
    reasons: tuple[str, ...] = Field((), description="why it may not be served; empty if it may")

    @property
    def is_passed(self) -> bool:
        return not self.reasons


class VariantResult(ExportRecord):
    """The measured quality and speed of one export in its runtime, and the decision whether it may be served."""

    runtime: RuntimeName
    precision: VariantPrecision
    nms: Nms = Field(description="where overlapping boxes are dropped: after or in the graph")
    weights_sha256: str = Field(description="of model.safetensors, which was exported")
    size_bytes: int = Field(description="of the files with the graph and its weights")
    metrics: dict[str, MetricPair] = Field({}, description="by <split>/<task>/<metric>: val, and test if asked for")
    parity: Parity | None = None
    latency: Latency | None = None
    gate: Gate | None = Field(None, description="null: the export was not evaluated")
    servable: bool = Field(False, description="whether the gate was passed")

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return variant_name(self.runtime, self.precision)

    @property
    def main_metrics(self) -> dict[str, MetricPair]:
        """Return the main metric of each task on each split that was scored, by name; all metrics of exports that were
        made before the gate had this list."""
        main = () if self.gate is None else self.gate.metrics
        return {name: pair for name, pair in self.metrics.items() if not main or name.partition("/")[2] in main}

    @property
    def reason(self) -> str:
        """Return why it is not served; empty if it is."""
        if self.servable:
            return ""
        return "it was not evaluated" if self.gate is None else "; ".join(self.gate.reasons)


Result = TypeVar("Result", bound=VariantResult)


class ExportedVariant(VariantResult):
    """One export of a model: a graph of a runtime, and everything that is needed to make predictions with it."""

    format: Literal[1] = 1
    pyramidion: str = Field(description="version that has written the export")
    graph: FileName = Field(description="name of the file with the graph")
    files: dict[FileName, str] = Field(description="SHA-256 of the files with the graph and its weights, by name")
    inputs: tuple[GraphInput, ...]
    multiple_of: PaddedSide = Field(32, description="heights and widths are padded to multiples of this")
    sizes_hw: Annotated[tuple[tuple[PaddedSide, PaddedSide], ...], Field(min_length=1)] | None = Field(
        None, description="allowed sizes after padding; null: any"
    )
    image_size: ImageSize = Field(description="data.image_size of the document; images are scaled to fit into it")
    exif: Literal["ignore", "apply"] = Field(description="whether images are rotated by their EXIF orientation")
    model: ModelSpec = Field(description="section `model` of the document")
    categories: dict[str, tuple[Category, ...]] = Field(description="by task, in the order of the labels")
    best_thresholds: dict[str, dict[str, Share | None]] = Field(
        {}, description="by task and class, null: a class has none"
    )
    temperatures: dict[str, Temperature] = Field({}, description="of calibrated scores, by task")
    weights: WeightsOrigin
    data_fingerprints: dict[str, str] = Field({}, description="by split, SHA-256 of its images and labels")

    @property
    def result(self) -> VariantResult:
        """Return its entry in the report."""
        return VariantResult(**{name: getattr(self, name) for name in VariantResult.model_fields})


class ExportReport(Spec):
    """`exports/report.json`: all exports of a model, each evaluated on its runtime."""

    variants: dict[str, VariantResult]


def variant_name(runtime: RuntimeName, precision: VariantPrecision) -> str:
    """Return the name of an export's folder, such as `openvino-int8`."""
    return f"{runtime}-{precision}"


def fastest_first(variants: Sequence[Result]) -> list[Result]:
    """Return the exports that may be served, by the share of torch's time that they need; unmeasured ones are last."""

    def share(variant: VariantResult) -> float:
        return 1 / variant.latency.speedup if variant.latency else float("inf")

    return sorted((variant for variant in variants if variant.servable), key=share)


class BenchmarkRow(Spec):
    """Times of one network for one batch size and number of threads."""

    name: str = Field(description="torch-fp32, or the name of an export")
    batch: int
    threads: int
    p50_ms: Milliseconds
    p99_ms: Milliseconds
    images_per_s: float


class ModelBenchmark(Spec):
    """`exports/benchmark.json`: times of a model in torch and in all of its exports, measured in turns."""

    cpu: str
    size_hw: tuple[int, int]
    rounds: int
    measured_at: str
    rows: tuple[BenchmarkRow, ...]
