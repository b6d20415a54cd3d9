"""The CPU time of a training step, by part of the network and by kind of operation."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.profiler import ProfilerActivity, profile

import heads.fcos
import heads.retinanet
from pipelines.model import MultiTaskModel
from tests.bench.runs import markdown

OPERATIONS = {
    "convolutions": ("conv", "aten::mm", "bmm", "winograd"),
    "norms": ("norm",),
    "ReLU": ("relu", "clamp_min", "threshold"),
    "sums (residuals, gradients)": ("aten::add", "aten::sum"),
    "copies and casts": ("copy", "fill_", "zero_", "cat"),
    "optimizer": ("adamw",),
}
"""Kinds of operations, and parts of the names of torch's operations; everything else is `rest`."""

ASSIGNMENTS = ((heads.retinanet, "match_anchors"), (heads.fcos, "match_locations"))


class Training(Protocol):
    """A network with its optimizer and one batch."""

    model: MultiTaskModel
    optimizer: Optimizer

    def loss(self) -> Tensor: ...
    def step(self) -> None: ...


class _Clock:
    """CPU seconds by part."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and adds its time to a part."""

        def run(*arguments: Any, **options: Any) -> Any:
            started = time.process_time()
            try:
                return call(*arguments, **options)
            finally:
                self.spent[part] += time.process_time() - started

        return run


@contextmanager
def _timed(owner: Any, name: str, part: str, clock: _Clock) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, clock.timed(part, original))
    try:
        yield
    finally:
        # A method of a module is found in its class again.
        if isinstance(owner, nn.Module):
            delattr(owner, name)
        else:
            setattr(owner, name, original)


def part_times(training: Training) -> dict[str, float]:
    """Return the CPU ms of each part of one step."""
    clock, model = _Clock(), training.model
    (head,) = model.heads.values()
    places = [
        (model.backbone, "forward", "backbone"),
        (model.neck, "forward", "pyramid"),
        (head, "forward", "towers and outputs"),
        (head, "loss", "losses"),
        *((module, name, "assignment") for module, name in ASSIGNMENTS),
    ]
    with ExitStack() as stack:
        for owner, name, part in places:
            stack.enter_context(_timed(owner, name, part, clock))
        clock.timed("zero_grad", training.optimizer.zero_grad)()
        total = clock.timed("forward", training.loss)()
        clock.timed("backward", total.backward)()
        clock.timed("optimizer", training.optimizer.step)()
    found = dict(clock.spent)
    found["losses"] -= found["assignment"]
    named = ("backbone", "pyramid", "towers and outputs", "assignment", "losses")
    ordered = {name: found[name] for name in named}
    ordered["preparation of images"] = found["forward"] - sum(ordered.values())
    ordered["backward"] = found["backward"]
    ordered["optimizer"] = found["optimizer"] + found["zero_grad"]
    return {name: 1000 * seconds for name, seconds in ordered.items()}


def operation_shares(training: Training) -> dict[str, float]:
    """Return the share of each kind of operation in the time of one step."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        training.step()
    spent: dict[str, float] = dict.fromkeys([*OPERATIONS, "rest"], 0.0)
    for event in profiler.key_averages():
        spent[_kind(event.key.lower())] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {kind: time_us / whole for kind, time_us in spent.items()}


def _kind(operation: str) -> str:
    for kind, names in OPERATIONS.items():
        if any(name in operation for name in names):
            return kind
    return "rest"


def parts_table(title: str, trainings: Mapping[str, Training], rounds: int) -> str:
    """Return two Markdown tables with one column per training: CPU ms by part, and shares by kind of operation."""
    by_part: dict[str, list[str]] = defaultdict(list)
    by_kind: dict[str, list[str]] = defaultdict(list)
    for training in trainings.values():
        training.step()
        measured = [part_times(training) for _ in range(rounds)]
        for part in measured[0]:
            by_part[part].append(f"{statistics.median(one[part] for one in measured):.0f}")
        for kind, share in operation_shares(training).items():
            by_kind[kind].append(f"{share:.1%}")
    header = list(trainings)
    return "\n".join(
        [
            markdown(f"{title}: CPU ms by part", header, by_part),
            markdown(f"{title}: share of time by operation", header, by_kind),
        ]
    )
