"""A dry run of a job: its data is checked and its network built, without training or writing anything."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from backbones.catalog.lookup import resolve
from backbones.depthwise import compute_slow_depthwise_in_float32
from backbones.weights_sources.defaults import default_weights_problem
from pipelines.base.errors import ConfigError
from pipelines.base.records import DatasetIndex
from pipelines.data.dataset.checks.report import DataReport
from pipelines.data.dataset.checks.text import render_report
from pipelines.data.loading.datamodule import JobData
from pipelines.model import MultiTaskModel
from pipelines.preflight import Inputs
from pipelines.run.conditions import slices_of
from pipelines.run.network import describe_network
from pipelines.run.plan import PlanRow, make_plan
from pipelines.run.run_precision import describe_precision, new_precision
from pipelines.spec.augment import describe_operations
from pipelines.spec.data_warnings import data_warnings
from pipelines.spec.document_warnings import document_warnings
from pipelines.spec.job import JobSpec
from pipelines.spec.load import resolved
from pipelines.spec.training import TrainerSpec
from pipelines.spec.transfer import frozen_parts
from pipelines.training.balancing import create_balance
from pipelines.training.single_images import avoid_single_images
from pipelines.training.trainer import num_processes


@dataclass(frozen=True)
class DryRunReport:
    """The data, the network and the plan of a job.

    Attributes:
        report: of its data.
        parts: number of parameters by part of the network: c3, c4, c5, neck, heads.<task>.
        plan: its parameter groups.
        warnings: about the document and its data.
        init: text about the tensors that the network takes from `model.init_from`; may be empty.
        precision: of training on this machine; None if the document is meant for another one.
    """

    job: JobSpec
    report: DataReport
    parts: dict[str, int]
    plan: list[PlanRow]
    init: str
    precision: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def parameters(self) -> dict[str, int]:
        """Number of parameters by stage: c3, c4, c5, neck, and all heads as `heads`."""
        parameters: Counter[str] = Counter()
        for part, number in self.parts.items():
            parameters[_stage(part)] += number
        return dict(sorted(parameters.items()))

    @property
    def trainable(self) -> dict[int, list[str]]:
        """Epoch -> the stages with parameters that train from that epoch on."""
        return {
            epoch: sorted(set(map(_stage, self._trained(epoch)))) for epoch in sorted(self.job.model.unfreeze or ())
        }

    def count(self, epoch: int) -> int:
        """Return the number of parameters that train in `epoch`."""
        return sum(self.parts[part] for part in self._trained(epoch))

    def _trained(self, epoch: int) -> list[str]:
        return sorted(set(self.parts) - frozen_parts(self.job.model, epoch))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON: the complete document, the data report, and by stage the parameters and when they train."""
        return {
            "config": resolved(self.job),
            "data_report": self.report.to_dict(),
            "stages": [{"stage": stage, "parameters": number} for stage, number in self.parameters.items()],
            "trainable": [
                {"epoch": epoch, "stages": stages, "parameters": self.count(epoch)}
                for epoch, stages in self.trainable.items()
            ],
            "precision": self.precision,
        }


def _stage(part: str) -> str:
    return part.partition(".")[0]


def dry_run(job: JobSpec, inputs: Inputs, index: DatasetIndex, report: DataReport) -> DryRunReport:
    """Build the network of a job whose data has no errors, and return the report.

    Raises:
        ConfigError, DataError: the job would not start.
        RegistryError: MLflow does not respond, so whether the job would start is unknown.
    """
    slices_of(job, inputs.data, index.records[index.final_split])
    model, init = describe_network(job, index, inputs)
    data = JobData(job.data, job.model.tasks, index, job.seed_everything)
    avoid_single_images(model, job, data, _num_processes(job.trainer))
    parts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parts[model.part_of(name)] += parameter.numel()
    plan = make_plan(model, job.model, {"balance": create_balance(job.model)})
    warnings = (*document_warnings(job), *data_warnings(job, index), *_missing_weights(job))
    return DryRunReport(job, report, dict(parts), plan, init, _precision(job.trainer, model), warnings)


def _missing_weights(job: JobSpec) -> Iterator[str]:
    """Yield a warning if this machine has no default weights and cannot download them; others may be able to."""
    backbone = job.model.backbone
    if job.model.init_from is not None or backbone.weights != "default":
        return
    if problem := default_weights_problem(resolve(backbone.network)):
        yield f"model.backbone.{problem}; on this machine the run would not start"


def _precision(spec: TrainerSpec, model: MultiTaskModel) -> str | None:
    """Return the precision of training on this machine, as `fit` prints it; the model is changed accordingly."""
    try:
        precision = new_precision(spec)
    except ConfigError:
        return None
    if precision.float32_depthwise:
        compute_slow_depthwise_in_float32(model)
    return describe_precision(precision.name, model)


def _num_processes(spec: TrainerSpec) -> int:
    """Return the number of training processes, as the document says if it is meant for another machine."""
    try:
        return num_processes(spec)
    except ConfigError:
        devices = spec.devices
        per_node = len(devices) if isinstance(devices, tuple) else 1 if devices == "auto" else devices
        return per_node * spec.num_nodes


def render(dry_run: DryRunReport) -> str:
    """Return the report as text."""
    lines = [f"{stage:>8}  {number:>13,} parameters" for stage, number in dry_run.parameters.items()]
    lines += [
        f"from epoch {epoch + 1}: {dry_run.count(epoch):,} parameters train ({', '.join(stages)})"
        for epoch, stages in dry_run.trainable.items()
    ]
    lines += [dry_run.init] if dry_run.init else []
    lines += [f"precision: {dry_run.precision}"] if dry_run.precision else []
    lines.append(describe_operations(dry_run.job.data.augment))
    return render_report(dry_run.report) + "\n".join(lines)
