"""The plan of a job: learning rate, weight decay and epochs of each parameter group."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from pipelines.model import MultiTaskModel
from pipelines.optim.param_groups import parameter_groups
from pipelines.spec.learning import ScheduleSpec
from pipelines.spec.model import ModelSpec
from pipelines.spec.transfer import frozen_parts

HEADINGS = ("group", "parameters", "tensors", "rate", "decay", "epochs")


@dataclass(frozen=True)
class Epochs:
    """Consecutive epochs, counted from 0 as in the document; `last` is None if they continue to the end."""

    first: int
    last: int | None

    def __str__(self) -> str:
        """Return the epochs as users count them on all screens, from 1."""
        first, last = self.first + 1, "" if self.last is None else self.last + 1
        return f"{first}" if first == last else f"{first}-{last}"


@dataclass(frozen=True)
class PlanRow:
    """One parameter group.

    Attributes:
        group: its name in the optimizer.
        parameters, tensors: their numbers.
        rate: its learning rate at the maximum of the schedule.
        trains: the epochs in which it trains; empty if it is always frozen.
    """

    group: str
    parameters: int
    tensors: int
    rate: float
    weight_decay: float
    trains: tuple[Epochs, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the row as JSON."""
        return {**asdict(self), "trains": [asdict(epochs) for epochs in self.trains]}


def make_plan(model: MultiTaskModel, spec: ModelSpec, extra: Mapping[str, nn.Module]) -> list[PlanRow]:
    """Return the optimizer's groups in their order.

    Args:
        model: the network; its frozen parts are included.
        spec: from a validated document.
        extra: further modules with parameters that are trained, by name.
    """
    parts = {id(parameter): model.part_of(name) for name, parameter in model.named_parameters()}
    return [
        PlanRow(
            group=group["name"],
            parameters=sum(parameter.numel() for parameter in group["params"]),
            tensors=len(group["params"]),
            rate=group["lr"],
            weight_decay=group["weight_decay"],
            trains=epochs_of(parts.get(id(group["params"][0])), spec),
        )
        for group in parameter_groups(model, spec, extra)
    ]


def epochs_of(part: str | None, spec: ModelSpec) -> tuple[Epochs, ...]:
    """Return the epochs in which a part of the network trains; None stands for `extra` modules, which always train."""
    assert spec.unfreeze is not None
    trains: list[Epochs] = []
    is_training = False
    for epoch in sorted(spec.unfreeze):
        was_training, is_training = is_training, part not in frozen_parts(spec, epoch)
        if is_training and not was_training:
            trains.append(Epochs(epoch, None))
        elif was_training and not is_training:
            trains[-1] = Epochs(trains[-1].first, epoch - 1)
    return tuple(trains)


def render_plan(rows: Sequence[PlanRow], schedule: ScheduleSpec) -> str:
    """Return a table with one line for each group."""
    cells = [HEADINGS] + [
        (
            row.group,
            f"{row.parameters:,}",
            f"{row.tensors}",
            f"{row.rate:.3g}",
            f"{row.weight_decay:g}",
            ", ".join(map(str, row.trains)) or "never",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *numbers, last in cells:
        middle = "  ".join(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=False))
        lines.append(f"{first:<{widths[0]}}  {middle}  {last}")
    warm_up = f"a warm-up of {schedule.warmup_steps} steps, then " if schedule.warmup_steps else ""
    return "\n".join([*lines, f"rates are those at the maximum of the schedule: {warm_up}{schedule.decay}"])
