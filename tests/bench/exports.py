"""Export models of several backbones with three heads, and print the tables of docs/export.md.

One model per backbone has a dense detector, a two-stage detector and a classification, and is trained on BCCD. Its
exports are scored on val and test beside torch in float32; the decision of the gate is that of `pyramidion export`.
Times are those of graphs cut to one head, beside torch with that head alone, in turns.

Finished runs and exports are reused, and a stopped run is resumed.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.spec.exported_variant import ExportedVariant, RuntimeName, VariantPrecision
from pipelines.spec.load import Document, apply_override, assemble, write_yaml
from tests.bench.runs import BENCH_DIR, Run, execute, find_bccd, hardware, markdown, report

BACKBONES = {"resnet18": "none", "tf_efficientnet_lite0": "default", "convnext_atto": "none"}
"""Backbones with the weights that training starts from: those of the package, or random ones."""
VARIANTS: Sequence[tuple[RuntimeName, VariantPrecision]] = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "int8"),
)
CELLS = {"levels": ["p3", "p4", "p5"], "score_threshold": 0.02}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "fcos": {"head": "fcos", **CELLS, "num_convs": 2, "range_scale": 6, "center_sampling_radius": 0.75},
    "faster_rcnn": {"head": "faster_rcnn", **CELLS, "anchor_scale": 1.5, "roi_levels": ["p3", "p4"]},
    "subtype": {"head": "multilabel", "level": "c5", "pool": "avgmax", "class_weights": "balanced", "weight": 0.1},
}
IMAGE_SIZE = (144, 192)
"""Height and width of the images in training and for the scores."""
EPOCHS = 8


def document_of(backbone: str, epochs: int) -> Document:
    """Return the document of a model with all heads."""
    document = assemble(["recipe:bccd_multitask"], [])
    boxes, names = document["data"]["sources"]["bccd"]["labels"]
    detectors = [task for task in TASKS if task != "subtype"]
    changes = {
        "name": f"exports_{backbone}",
        "trainer": {"max_epochs": epochs, "check_val_every_n_epoch": epochs},
        "model.backbone": {"name": backbone, "weights": BACKBONES[backbone]},
        "model.tasks": {task: dict(spec) for task, spec in TASKS.items()},
        "model.schedule.warmup_steps": 50,
        "model.select.metric": "val/fcos/AP",
        "data.sources.bccd.labels": [{**boxes, "tasks": detectors}, names],
        "data.image_size": list(IMAGE_SIZE),
        "tracking": None,
    }
    for name, value in changes.items():
        document = apply_override(document, name, value)
    return document


def training(backbone: str, epochs: int, out: Path) -> Run:
    """Return the training of one backbone; its document is written to `out`."""
    path = out / f"{backbone}.yaml"
    path.write_text(write_yaml(document_of(backbone, epochs)), "utf-8")
    return Run(backbone, (f"--config={path}",))


def figure(value: float | None, reference: float | None) -> str:
    """Return a metric of an export, with its difference from torch if it has one."""
    if value is None or reference is None:
        return "undefined"
    change = round(value - reference, 4)
    return f"{value:.4f}" if change == 0 else f"{value:.4f} ({change:+.4f})"


def speed(torch_s: float, runtime_s: float) -> str:
    """Return the time of an export in milliseconds, and how many times as fast as torch it is."""
    return f"{1000 * runtime_s:.1f} ({torch_s / runtime_s:.1f})"


class Exported:
    """A trained model with its exports.

    Args:
        folder: of the finished run.
    """

    def __init__(self, folder: Path) -> None:
        from pipelines.export.variants import ExportRequest, export_variant
        from pipelines.preflight import Places
        from pipelines.run.export_run import load_source
        from pipelines.run.saved_run import load_document
        from pipelines.run_folder.exports_layout import ExportsDir
        from pipelines.runtimes.variant import read_variant

        self.source = load_source(*load_document(folder), Places((find_bccd().parent,), ()))
        self.exports = ExportsDir.of(folder)
        self.variants: dict[str, ExportedVariant] = {}
        for runtime, precision in VARIANTS:
            target = self.exports.variant(f"{runtime}-{precision}")
            if not target.description.is_file():
                print(f"== {folder.name}: {runtime}-{precision}", flush=True)
                export_variant(self.source, ExportRequest(runtime, precision), self.exports)
            self.variants[f"{runtime}-{precision}"] = read_variant(target.path)

    def quality(self, split: str) -> dict[str, dict[str, float | None]]:
        """Return the main metric by task, of torch and of each export."""
        from pipelines.evaluation.conditions import main_metrics
        from pipelines.export.evaluation import score_networks
        from pipelines.runtimes.variant import load_variant

        names = {task: f"{split}/{task}/{metric}" for task, metric in main_metrics(self.source.job.model).items()}
        if split == "val":
            pairs = {name: variant.metrics for name, variant in self.variants.items()}
            first = next(iter(pairs.values()))
            found = {"torch": {task: first[key].torch for task, key in names.items()}}
            return found | {
                name: {task: own[key].variant for task, key in names.items()} for name, own in pairs.items()
            }
        networks = {name: load_variant(self.exports.variant(name).path, threads=1) for name in self.variants}
        source = self.source
        scored = score_networks(
            [source.network, *networks.values()], source.job.model, source.index, source.data, "test"
        )
        return {
            name: {task: own[key] for task, key in names.items()}
            for name, own in zip(("torch", *networks), scored, strict=True)
        }

    def times(self, task: str, size_hw: tuple[int, int], rounds: int) -> dict[str, float]:
        """Return the median seconds of one image of a model with one head, in torch and in each export."""
        import torch

        from pipelines.export.inputs import one_image
        from pipelines.export.timing import times_in_turns
        from pipelines.inference.network import Network, TorchNetwork
        from pipelines.runtimes.network import ExportedNetwork
        from pipelines.runtimes.rows import RUNTIMES

        images, sizes = one_image(size_hw)
        model = deepcopy(self.source.network.model)
        for other in set(model.heads) - {task}:
            del model.heads[other]
        if task == "subtype":
            model.neck = torch.nn.Identity()  # graphs do not have layers that no head needs
        spec = self.source.job.model
        spec = spec.model_copy(update={"tasks": {task: spec.tasks[task]}})
        networks: list[Network] = [TorchNetwork(model, "cpu")]
        with tempfile.TemporaryDirectory() as scratch:
            for name, variant in self.variants.items():
                graph = Path(scratch, name) / variant.graph
                graph.parent.mkdir()
                cut_graph(self.exports.variant(name).path / variant.graph, graph, task)
                session = RUNTIMES[variant.runtime].load(graph, variant.precision, threads=1)
                networks.append(ExportedNetwork(session, spec, {}))
        calls = [partial(network.predict, images, sizes) for network in networks]
        seconds = times_in_turns(calls, rounds)
        return {name: statistics.median(own) for name, own in zip(("torch", *self.variants), seconds, strict=True)}


def cut_graph(source: Path, target: Path, task: str) -> None:
    """Write the part of a graph that computes one task."""
    if source.suffix == ".onnx":
        import onnx

        graph = onnx.load(str(source)).graph
        outputs = [output.name for output in graph.output if output.name.startswith(f"{task}.")]
        onnx.utils.extract_model(str(source), str(target), [given.name for given in graph.input], outputs)
        return
    from pipelines.runtimes.openvino import import_openvino

    openvino = import_openvino()
    model = openvino.Core().read_model(source)
    kept = [
        result for result in model.get_results() if result.get_output_tensor(0).get_any_name().startswith(f"{task}.")
    ]
    part = openvino.Model(kept, model.get_parameters())
    openvino.save_model(part, target, compress_to_fp16=False)


def quality_table(models: Mapping[str, Exported], split: str) -> str:
    """Return the main metric of each task in torch and in each export."""
    rows = {}
    for backbone, exported in models.items():
        by_name = exported.quality(split)
        for task in TASKS:
            reference = by_name["torch"][task]
            rows[f"{backbone}, {task}"] = [figure(by_name[name][task], reference) for name in by_name]
    return markdown(f"Quality on {split}", ["torch", *models[backbone].variants], rows)


def gate_table(models: Mapping[str, Exported]) -> str:
    """Return parity, size and decision of each export."""
    rows = {}
    for backbone, exported in models.items():
        for name, variant in exported.variants.items():
            parity = variant.parity
            differences = "" if parity is None else f"{parity.scores:.1e}, {parity.boxes_px:.4f} px"
            decision = variant.reason or "passed"
            rows[f"{backbone}, {name}"] = [differences, f"{variant.size_bytes / 1e6:.1f} MB", decision]
    return markdown("Gate", ["scores and boxes differ by at most", "size", "decision"], rows)


def time_table(models: Mapping[str, Exported], size_hw: tuple[int, int], rounds: int) -> str:
    """Return the times of one image of one size."""
    rows = {}
    for backbone, exported in models.items():
        for task in TASKS:
            found = exported.times(task, size_hw, rounds)
            own = [speed(found["torch"], found[name]) for name in exported.variants]
            rows[f"{backbone}, {task}"] = [f"{1000 * found['torch']:.1f}", *own]
    title = f"Milliseconds for one image of {size_hw[1]} x {size_hw[0]}, and how many times as fast as torch"
    return markdown(title, ["torch", *exported.variants], rows)


def main() -> None:
    """Run the missing trainings and exports, then print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--rounds", type=int, default=15, help="number of measurements of each time")
    parser.add_argument("--out", type=Path, default=BENCH_DIR / "exports")
    options = parser.parse_args()
    os.environ["PYRAMIDION_DATA_ROOTS"] = str(find_bccd().parent)
    os.environ["OMP_NUM_THREADS"] = "1"
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    for backbone in options.backbones:
        execute(training(backbone, options.epochs, out), out)
    import torch

    torch.set_num_threads(1)
    models = {backbone: Exported(out / backbone) for backbone in options.backbones}
    parts = [f"{hardware()}; one thread, one image at a time; {options.epochs} epochs.\n", gate_table(models)]
    parts += [quality_table(models, split) for split in ("val", "test")]
    parts += [time_table(models, size_hw, options.rounds) for size_hw in (IMAGE_SIZE, (512, 512))]
    report(parts, out / "exports.md")


if __name__ == "__main__":
    main()
