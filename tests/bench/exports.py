"""Export models of several backbones with four heads, and print the tables of docs/export.md.

One model per backbone has two dense detectors, a two-stage detector and a classification, and is trained on BCCD. Its
exports are scored on val and test beside torch in float32, as `pyramidion export --test` does. Times are those of
graphs cut to one head, beside torch with that head alone, in turns.

Finished runs and exports are reused, and a stopped run is resumed. The tables of each backbone are written at its end.
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

from pipelines.export.timing import times_in_turns
from pipelines.spec.export_settings import ExportSettings
from pipelines.spec.exported_variant import ExportedVariant
from pipelines.spec.load import Document, apply_override, assemble, write_yaml
from tests.bench.runs import BENCH_DIR, Run, execute, find_bccd, hardware, markdown, report

BACKBONES = {"resnet18": "none", "tf_efficientnet_lite0": "default", "convnext_atto": "none"}
"""Backbones with the weights that training starts from: those of the package, or random ones."""
EXPORTS: Sequence[ExportSettings] = (
    ExportSettings(to="onnx", test=True),
    ExportSettings(to="openvino", test=True),
    ExportSettings(to="openvino", precision="int8", test=True),
)
CELLS = {"levels": ["p3", "p4", "p5"], "score_threshold": 0.02}
TASKS: Mapping[str, Mapping[str, Any]] = {
    "fcos": {"head": "fcos", **CELLS, "num_convs": 2, "range_scale": 6, "center_sampling_radius": 0.75},
    "retinanet": {"head": "retinanet", **CELLS, "num_convs": 2, "anchor_scale": 1.5},
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
        "evaluation.plots": False,
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
        from pipelines.export.variants import export_variant
        from pipelines.preflight import Places
        from pipelines.run.export_run import load_source
        from pipelines.run.folder_setup import locked
        from pipelines.run.saved_run import load_document
        from pipelines.run_folder.exports_layout import ExportsDir
        from pipelines.runtimes.variant import read_variant

        run_dir, job = load_document(folder)
        self.source = load_source(run_dir, job, Places((find_bccd().parent,), ()))
        self.exports = ExportsDir.of(folder)
        self.variants: dict[str, ExportedVariant] = {}
        with locked(run_dir):
            for settings in EXPORTS:
                target = self.exports.variant(settings.variant_name)
                if not target.description.is_file():
                    print(f"== {folder.name}: {settings.variant_name}", flush=True)
                    export_variant(self.source, settings, self.exports)
                self.variants[settings.variant_name] = read_variant(target.path)

    def times(self, task: str, size_hw: tuple[int, int], rounds: int) -> tuple[dict[str, float], float]:
        """Return the median seconds of one image of a model with one head, in torch and in each export.

        The second value is the number of floating point operations of its convolutions and products in torch.
        """
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from pipelines.export.inputs import one_image
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
        with FlopCounterMode(display=False) as counter:
            calls[0]()
        medians = {name: statistics.median(own) for name, own in zip(("torch", *self.variants), seconds, strict=True)}
        return medians, counter.get_total_flops()


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


def quality_table(exported: Exported, split: str) -> str:
    """Return the main metric of each task in torch and in each export."""
    from pipelines.evaluation.conditions import main_metrics

    rows = {}
    for task, metric in main_metrics(exported.source.job.model).items():
        pairs = [variant.metrics[f"{split}/{task}/{metric}"] for variant in exported.variants.values()]
        torch = pairs[0].torch
        rows[task] = [figure(value, torch) for value in (torch, *(pair.variant for pair in pairs))]
    return markdown(f"Quality on {split}", ["torch", *exported.variants], rows)


def gate_table(exported: Exported) -> str:
    """Return parity, size and decision of each export."""
    from pipelines.spec.export_summary import differences_text

    rows = {}
    for name, variant in exported.variants.items():
        differences = "" if variant.parity is None else differences_text(variant.parity)
        rows[name] = [differences, f"{variant.size_bytes / 1e6:.1f} MB", variant.reason or "passed"]
    return markdown("Gate", ["differences from torch of at most", "size", "decision"], rows)


def operations_per_second() -> float:
    """Return the floating point operations per second of one thread that multiplies matrices, the most it can do."""
    import torch

    one, other = torch.randn(1024, 1024), torch.randn(1024, 1024)
    (seconds,) = times_in_turns([partial(torch.mm, one, other)], 30)
    return 2 * 1024**3 / min(seconds)


def time_table(exported: Exported, size_hw: tuple[int, int], rounds: int) -> str:
    """Return the times of one image of one size, and what its operations would take at the speed of a product."""
    rows, limit = {}, operations_per_second()
    for task in exported.source.job.model.tasks:
        found, operations = exported.times(task, size_hw, rounds)
        own = [speed(found["torch"], found[name]) for name in exported.variants]
        at_limit = f"{1000 * operations / limit:.1f} for {operations / 1e9:.1f} GFLOP"
        rows[task] = [f"{1000 * found['torch']:.1f}", *own, at_limit]
    title = f"Milliseconds for one image of {size_hw[1]} x {size_hw[0]}, and how many times as fast as torch"
    return markdown(title, ["torch", *exported.variants, f"at {limit / 1e9:.0f} GFLOP/s"], rows)


def main() -> None:
    """Run the missing trainings and exports, then print and write the tables, one backbone after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of trainings that have not started")
    parser.add_argument("--rounds", type=int, default=15, help="number of measurements of each time")
    parser.add_argument("--out", type=Path, default=BENCH_DIR / "exports")
    options = parser.parse_args()
    os.environ["PYRAMIDION_DATA_ROOTS"] = str(find_bccd().parent)
    os.environ["OMP_NUM_THREADS"] = "1"
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    import torch

    torch.set_num_threads(1)
    for backbone in options.backbones:
        execute(training(backbone, options.epochs, out), out)
        exported = Exported(out / backbone)
        epochs = exported.source.job.trainer.max_epochs
        parts = [f"## {backbone}\n\n{hardware()}; one thread, one image at a time; {epochs} epochs.\n"]
        parts += [gate_table(exported), *(quality_table(exported, split) for split in ("val", "test"))]
        parts += [time_table(exported, size_hw, options.rounds) for size_hw in (IMAGE_SIZE, (512, 512))]
        report(parts, out / f"{backbone}.md")


if __name__ == "__main__":
    main()
