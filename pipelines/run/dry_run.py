"""What a job would be: its data is checked and its network is built, nothing is trained and nothing written."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.data.checks.report import DataReport
from pipelines.data.checks.text import render_report
from pipelines.data.index import build_index
from pipelines.data.records import DatasetIndex
from pipelines.inference.init_from import FIELD, begin_from
from pipelines.inference.saved import read_saved
from pipelines.model import MultiTaskModel, build_model
from pipelines.run.beginning import with_version
from pipelines.run.preflight import REGISTRY, Inputs
from pipelines.spec.job import JobSpec
from pipelines.spec.load import resolved
from pipelines.spec.transfer import frozen_parts


@dataclass(frozen=True)
class DryRun:
    """What a job would be.

    Attributes:
        report: what its data holds.
        parameters: numbers by part of the network: c3, c4, c5, neck, heads.
        trainable: epoch -> the parts that train from then on.
        begins: what the network takes from `model.init_from`, for people.
    """

    job: JobSpec
    report: DataReport
    parameters: dict[str, int]
    trainable: dict[int, list[str]]
    begins: str = ""

    def count(self, epoch: int) -> int:
        """Return how many parameters train from `epoch` (of `trainable`) on."""
        return sum(self.parameters[stage] for stage in self.trainable[epoch])

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON: the document with every default, the data report, parameters by stage, what trains."""
        return {
            "config": resolved(self.job),
            "data_report": self.report.to_dict(),
            "stages": [{"stage": stage, "parameters": number} for stage, number in self.parameters.items()],
            "trainable": [
                {"epoch": epoch, "stages": stages, "parameters": self.count(epoch)}
                for epoch, stages in self.trainable.items()
            ],
        }


def dry_run(job: JobSpec, inputs: Inputs) -> DryRun:
    """Return what the job would be.

    Raises:
        ConfigError, DataError: it would not start.
        RegistryError: whether it would is not known.
    """
    index, report = build_index(job, inputs.data)
    report.raise_errors()
    model = build_model(job.model, index.categories)
    begins = _begins(job, inputs, model, index)
    parameters: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        parameters[model.stage_of(name)] += parameter.numel()
    trainable = {
        epoch: sorted(set(parameters) - frozen_parts(job.model, epoch)) for epoch in sorted(job.model.unfreeze or ())
    }
    return DryRun(job, report, dict(sorted(parameters.items())), trainable, begins)


def _begins(job: JobSpec, inputs: Inputs, model: MultiTaskModel, index: DatasetIndex) -> str:
    """Say what the network would take from elsewhere; a registered model is looked up, not fetched."""
    if inputs.init_from is None:
        return ""
    if inputs.init_from.startswith(REGISTRY):
        return f"init_from {with_version(inputs).init_from}"
    report = begin_from(model, read_saved(Path(inputs.init_from), FIELD), job.model, index.categories, inputs.init_from)
    return "\n".join([str(report), *(f"warning: {doubt}" for doubt in report.warnings)])


def render(outcome: DryRun) -> str:
    """Return it as text for people."""
    lines = [f"{stage:>8}  {number:>13,} parameters" for stage, number in outcome.parameters.items()]
    lines += [
        f"from epoch {epoch}: {outcome.count(epoch):,} parameters train ({', '.join(stages)})"
        for epoch, stages in outcome.trainable.items()
    ]
    lines += [outcome.begins] if outcome.begins else []
    return render_report(outcome.report) + "\n".join(lines)
