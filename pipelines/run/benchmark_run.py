"""`bench-model`: the times of the model of a run in torch and in its exports."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipelines.base.cores import num_cores
from pipelines.base.errors import ConfigError, FieldProblem
from pipelines.base.ranks import print_rank_zero
from pipelines.export.benchmark import LoadNetwork, benchmark
from pipelines.inference.export import load_exported
from pipelines.inference.network import Network, TorchNetwork
from pipelines.run.saved_run import load_document
from pipelines.run_folder.exports_layout import ExportsDir
from pipelines.run_folder.files import write_atomic
from pipelines.run_folder.layout import ExportedModelDir
from pipelines.runtimes.rows import RUNTIMES
from pipelines.runtimes.variant import INSTALL, load_variant, read_variants
from pipelines.spec.exported_variant import ModelBenchmark

BATCHES = (1, 8)


def benchmark_run(
    path: Path, batches: Sequence[int] | None, threads: Sequence[int] | None, rounds: int
) -> ModelBenchmark:
    """Measure the model of a run, write `exports/benchmark.json`, and return its content.

    Args:
        path: folder of the run.
        batches: numbers of images at once; None: 1 and 8.
        threads: numbers of threads; None: the number of cores that this process may use.
        rounds: number of measurements.

    Raises:
        ConfigError: the run has no model, or a number is less than 1.
    """
    for option, numbers in (("--batch", batches or ()), ("--threads", threads or ()), ("--rounds", (rounds,))):
        for number in numbers:
            if number < 1:
                raise ConfigError(FieldProblem(option, f"got {number}; write 1 or more"))
    run_dir, _ = load_document(path)
    model, job, _ = load_exported(run_dir.model)
    model.fold_norms()
    exports = ExportsDir.of(run_dir.path)
    loaders: dict[str, LoadNetwork] = {"torch-fp32": lambda _: TorchNetwork(model, "cpu")}
    for variant, folder in read_variants(exports):
        runtime = RUNTIMES[variant.runtime]
        if runtime.is_installed:
            loaders[variant.name] = _loader(folder, ExportedModelDir(run_dir.model).weights)
        else:
            print_rank_zero(f"{variant.name} is not measured, because {runtime.package} is not installed; {INSTALL}")
    result = benchmark(
        loaders,
        job.data.image_size_hw,
        batches=batches or BATCHES,
        threads=threads or (num_cores(),),
        rounds=rounds,
    )
    write_atomic(exports.benchmark, json.dumps(result.model_dump(mode="json"), indent=1) + "\n")
    return result


def _loader(folder: Path, weights: Path) -> LoadNetwork:
    def load(threads: int) -> Network:
        return load_variant(folder, threads, weights)

    return load
